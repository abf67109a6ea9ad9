"""Access to the console: users, sessions, logins, and the checks before each route."""
