"""The services of the cluster as plain processes on this machine."""
