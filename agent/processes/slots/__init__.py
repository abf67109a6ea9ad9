"""Frame slots: shared memory between a camera process and the worker."""
