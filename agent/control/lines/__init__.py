"""Decides what a line runs, and what is said of it. Imports state and below."""
