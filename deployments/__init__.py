"""What is put into service: a Prefect server made to match prefect.yaml, and the command's entry point."""
