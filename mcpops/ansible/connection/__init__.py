"""Connection plugins of our own plays; Ansible loads them by file name from this directory, before its own."""
