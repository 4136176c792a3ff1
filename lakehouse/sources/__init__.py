"""What is delivered and how it gets in: landing, admission, PostgreSQL, the sample."""
