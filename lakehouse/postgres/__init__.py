"""Connections to PostgreSQL, and the embedded server of a home."""
