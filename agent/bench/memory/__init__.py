"""Measures what the agent's processes hold."""
