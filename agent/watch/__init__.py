"""Live view of a device in the terminal, from its topics alone: `feed` listens, `board` keeps state, `screen` draws."""
