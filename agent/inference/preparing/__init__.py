"""Builds artifacts for this device in separate processes. Imports serving, validation, memory and below."""
