"""The command line: one file a noun; app.py is the way in."""
