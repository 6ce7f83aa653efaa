"""The record: who may act, what was intended, what came of it. SQLAlchemy Core on SQLite (PostgreSQL to follow)."""
