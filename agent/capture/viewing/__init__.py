"""Pictures for people who look at a stream."""
