"""Tables of the configuration file beside those in `settings/model.py`, and their common base."""
