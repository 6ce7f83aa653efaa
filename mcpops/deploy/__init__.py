"""Releases, cutover, bake and rollback."""
