"""Diagnosis of a device: tries everything that the agent needs. May import every other room."""
