"""The web process as control owns it: its start, what it is told and what it asks."""
