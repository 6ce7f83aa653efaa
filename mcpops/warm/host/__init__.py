"""What is sent to a host and runs there; see `server`. Standard library only, no imports from outside itself."""
