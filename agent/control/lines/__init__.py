"""Changes and reports the state of lines. Imports state and below."""
