"""The one place where a session is made (Sail, Spark), and where builds run and are committed."""
