"""Keeps prepared artifacts on disk. Imports yolo and below."""
