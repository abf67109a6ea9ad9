"""`changeover switch`: asks a device for a product or a model, over the broker, and waits for what comes of it."""
