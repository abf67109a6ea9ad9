"""Checks, reads and reloads the configuration."""
