"""Decides which models stay in memory, within the memory budget. Imports backends and below."""
