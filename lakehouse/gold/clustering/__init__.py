"""Customer segments and their profiles."""
