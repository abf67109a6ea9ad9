"""Handles each command, rule and report. Imports lines and below."""
