"""Pictures of requests: what their first bytes say, and how they get into a block."""
