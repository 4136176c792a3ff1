"""Images, jars, first start, and the real services as plain processes."""
