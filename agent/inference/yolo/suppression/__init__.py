"""Chooses among the candidates of a dense head. Imports layouts only."""
