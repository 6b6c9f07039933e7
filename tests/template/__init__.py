"""The template: its properties, a deployment into a simulated AWS, and the training machine."""
