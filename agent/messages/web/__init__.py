"""Messages of the web process, which serves console and gateway: with control, and with a worker."""
