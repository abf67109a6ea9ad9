"""Takes frames through their line's model. Imports memory, backends and below."""
