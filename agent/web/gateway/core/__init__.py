"""The part that both transports share: clients, catalog, the link to the worker, turns, pictures and tensors."""
