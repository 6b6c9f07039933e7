"""Frozen backbones: the table, building them with weights, and cutting them for fine-tuning."""
