"""Makes keys, signatures and the signed index, for whoever runs the plant's models; never used by the service."""
