"""Stores artifacts, which are models compiled for this device, on disk. Imports yolo and below."""
