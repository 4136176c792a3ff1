"""Figures recounted from the landed files by another engine, DuckDB."""
