"""Who may use the console: users, sessions, logins, and the checks before each route."""
