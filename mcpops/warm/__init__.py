"""The warm connection of Ansible: a server on the host for the time of a run, and payloads kept between runs."""
