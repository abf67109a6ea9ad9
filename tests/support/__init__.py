"""Helpers shared by several folders' tests; imports `agent`."""
