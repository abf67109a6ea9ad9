"""Shares frames between a camera process and the worker."""
