"""What bounds a job: its time, its hours, its rate, the space of the store."""
