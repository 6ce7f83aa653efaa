"""What runs on target hosts: one program, standard library only, Python 3.9 or newer.

Nothing here imports anything of mcpops outside this package: it is shipped as one file (see bundle).
"""
