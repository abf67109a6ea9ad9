"""The catalog of models, and the store of their files."""
