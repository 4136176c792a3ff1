"""What a fresh PostgreSQL and MinIO are given: databases, buckets, users with least rights."""
