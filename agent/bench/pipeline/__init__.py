"""Measures how much of the runtime's speed the agent keeps."""
