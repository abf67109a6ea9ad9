"""Checks, loads and reloads the configuration."""
