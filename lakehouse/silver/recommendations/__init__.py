"""Silver that only the group recommendations needs."""
