"""Says where the broker is, as whom to speak to it, and why it cannot be had."""
