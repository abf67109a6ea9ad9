"""Doctor's checks of the supply of models."""
