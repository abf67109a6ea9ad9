"""Finds out which processors the runtimes can use here, and what is missing; imports no runtime and no backend."""
