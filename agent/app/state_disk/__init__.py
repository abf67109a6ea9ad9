"""Persists control's state in a folder that one agent holds alone."""
