"""Outbox: keeps messages until the broker acknowledges them. Imports the link's types."""
