"""Expectations of tables, validated by Great Expectations in a process of its own."""
