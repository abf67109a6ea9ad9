"""What doctor tries of the supply of models."""
