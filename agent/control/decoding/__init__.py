"""Decodes payloads of PLCs and operators. Imports settings and messages only."""
