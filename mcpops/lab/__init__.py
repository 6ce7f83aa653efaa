"""Real Debian hosts on this machine, for the tests and for trying things: `mcpops lab up`. Needs root."""
