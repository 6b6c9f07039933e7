"""The trained head: model, recipe, training loop, checkpoints, warm start and fine-tuning."""
