"""Draws the board in the terminal."""
