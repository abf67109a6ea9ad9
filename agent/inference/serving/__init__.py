"""Infers the frames of streams by their line's model. Imports memory, backends and below."""
