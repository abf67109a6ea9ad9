"""Child processes: cameras and the worker, with their messages checked."""
