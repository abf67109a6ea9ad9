"""Decides at which CPU priority a load runs. Imports nothing of inference."""
