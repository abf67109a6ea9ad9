"""Inputs and outputs of YOLO detection models, without any runtime: letterbox, heads, suppression, metadata."""
