"""What needs torch and ultralytics, each in a process of its own: building models, and the reference manager."""
