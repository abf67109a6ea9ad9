"""The groups of lines: a worker process each, and their shares of memory and processor."""
