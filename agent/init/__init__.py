"""A first configuration: asks, tries each answer and writes it. May import doctor, app, models and settings."""
