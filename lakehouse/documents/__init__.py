"""What is generated from the declarations: catalogue, lineage, parts of the README, .env.example."""
