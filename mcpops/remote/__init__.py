"""Direct channels to hosts: the on-call fast path."""
