"""Delta tables and objects, in a folder or an S3 store: the only room that knows paths and Delta."""
