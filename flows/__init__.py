"""Prefect flows, one file each; what they are made of is in the rooms below."""
