"""Keeps what the broker has not acknowledged. Imports the link's types."""
