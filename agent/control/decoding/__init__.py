"""Reads what PLCs and operators send. Imports settings and messages only."""
