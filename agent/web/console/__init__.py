"""The console: pages, sessions and the acts of people. `console.routes` is what the server mounts."""
