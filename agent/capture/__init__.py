"""Cameras, files and folders: the only code that opens one. Runs in a process of its own for each stream."""
