"""The command `models fetch`. May import app."""
