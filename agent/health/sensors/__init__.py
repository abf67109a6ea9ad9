"""Reads the device's sensors and memory."""
