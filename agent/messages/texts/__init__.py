"""Texts with one meaning everywhere: product codes, numbers, times, cameras. Imports nothing of the package."""
