"""Write the report, the model card, the plots, the cost receipt and TensorBoard events."""
