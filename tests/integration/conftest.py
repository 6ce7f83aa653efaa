"""Fixtures of several files."""

from tests.integration.far import far, roots

__all__ = ["far", "roots"]
