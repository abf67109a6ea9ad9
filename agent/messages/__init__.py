"""What crosses a process, a thread or the broker. Imports nothing else of the package."""
