"""Starts and hears camera processes and the worker."""
