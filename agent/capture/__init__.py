"""Camera process of one stream: opens its source, reads frames and reconnects. Imports messages and processes only."""
