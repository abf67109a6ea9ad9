"""Decides what each command, rule and report changes. Imports lines and below."""
