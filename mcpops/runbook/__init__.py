"""A playbook becomes steps: cut, validated, copied, digested."""
