"""Drawing of a board in the terminal with rich."""
