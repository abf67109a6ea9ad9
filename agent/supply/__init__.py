"""The supply process: fetches models from their sources, verifies them, and keeps them in the store."""
