"""Compares a candidate with the model that serves a line. Imports serving, validation and below."""
