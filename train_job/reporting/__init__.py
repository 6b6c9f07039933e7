"""Write the report, the model card, plots, costs and TensorBoard events."""
