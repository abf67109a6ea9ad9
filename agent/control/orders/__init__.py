"""Orders for models: received, fetched, proven, entered in the catalog, activated; pure as all of control."""
