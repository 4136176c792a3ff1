"""JSON documents of a release, their schemas, and the folder or address they are published in."""
