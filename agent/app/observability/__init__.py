"""Publishes what the device says of itself."""
