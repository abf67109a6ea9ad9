"""Groups: what is told of them, and how control lends the memory of one to another."""
