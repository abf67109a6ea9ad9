"""The worker: models, their memory, and inference. The only code that touches a runtime."""
