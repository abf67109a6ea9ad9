"""Prints the device's own records: the models that served and when, and the course of a comparison."""
