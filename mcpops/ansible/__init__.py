"""One step = one ansible-runner process, and nothing left behind. The only importer of ansible_runner."""
