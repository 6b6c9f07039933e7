"""Train the head: model, recipe, fit, checkpoints, warm start and fine-tuning."""
