"""Brings models in and puts them on lines. Imports preparing, serving, validation, memory and below."""
