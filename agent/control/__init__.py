"""What should run, and what may be said of it: pure decisions. Time is an argument, and nothing here does I/O."""
