"""Which models there are, and their files."""
