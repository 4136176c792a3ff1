"""A run as a transaction over all tables, with Prefect and without: request, changes, steps, commit."""
