"""`changeover switch`: requests a product or model over the broker and waits for the result."""
