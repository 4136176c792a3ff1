"""Releases: begin, commit, read, roll back, keep, expire; and the lease that lets one writer write."""
