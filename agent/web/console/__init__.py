"""The console: pages for people, sessions and roles, live state, pictures, and acts that go to control as commands."""
