"""Certificates: a private CA for east-west and the lab."""
