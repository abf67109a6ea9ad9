"""What YOLO detection models take and give, without any runtime: letterbox, heads, suppression, metadata."""
