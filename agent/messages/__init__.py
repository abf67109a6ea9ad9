"""Messages between processes, threads and the broker. Imports nothing else of the package."""
