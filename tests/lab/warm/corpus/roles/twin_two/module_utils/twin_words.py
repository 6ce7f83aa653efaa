"""Shared code of the role twin_two, under a name that the other role uses as well."""

WORDS = ["two", "of twin_two"]
