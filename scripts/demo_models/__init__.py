"""Steps of `scripts/train_demo_models` after the training: export, verification, and what is written about it."""
