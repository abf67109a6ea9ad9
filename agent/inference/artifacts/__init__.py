"""Stores artifacts on disk. Imports yolo and below."""
