"""The training commands: train, check, plan, features, inspect."""
