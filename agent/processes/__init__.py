"""Child processes: start, supervision, channels, frame slots, the event loop and logs. Imports no concrete child."""
