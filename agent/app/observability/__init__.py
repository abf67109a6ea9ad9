"""Publishes the state of the device: topics, metrics, health and systemd status."""
