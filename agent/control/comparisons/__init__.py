"""State and statistics of comparisons of two versions of a model; imports messages and settings only."""
