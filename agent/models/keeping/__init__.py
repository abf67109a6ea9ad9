"""Retention in the store: models in use, and files that may be deleted. Imports models."""
