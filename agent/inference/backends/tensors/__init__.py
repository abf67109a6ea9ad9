"""Models that take and give raw tensors, for requests: no head reads their outputs."""
