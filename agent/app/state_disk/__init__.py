"""Keeps control's state on disk, for one agent alone."""
