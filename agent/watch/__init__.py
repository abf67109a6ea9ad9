"""A device in the terminal, from its topics alone: what it said (board), how that looks (view), who listens (feed)."""
