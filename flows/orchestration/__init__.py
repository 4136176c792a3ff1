"""Prefect at arm's length: steps as tasks, a client, the local server."""
