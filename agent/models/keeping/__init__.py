"""What the store keeps: what is in use, and what may be deleted. Imports models."""
