"""Executes actions and publishes detections."""
