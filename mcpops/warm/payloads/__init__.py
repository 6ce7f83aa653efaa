"""The payloads of modules, kept between runs of Ansible: `cache` is the way in, `callback` what Ansible loads."""
