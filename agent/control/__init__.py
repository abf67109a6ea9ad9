"""Pure decisions about lines: time is an argument, and nothing here does I/O."""
