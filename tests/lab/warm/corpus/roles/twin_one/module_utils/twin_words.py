"""Shared code of the role twin_one, under a name that the other role uses as well."""

WORDS = ["one", "of twin_one"]
