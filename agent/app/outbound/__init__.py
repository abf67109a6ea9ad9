"""Carries decisions out, and sends detections."""
