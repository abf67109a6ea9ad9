"""Loads models and switches lines to them. Imports preparing, serving, validation, memory and below."""
