"""Frozen backbones: the catalog, building them with weights, and cutting them for fine-tuning."""
