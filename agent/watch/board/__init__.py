"""Folds a device's messages into rows. Pure."""
