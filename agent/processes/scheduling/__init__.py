"""Scheduling of threads by the kernel: their priorities, and how long each may run at a time."""
