"""Run the frozen backbone over new photos and fill the feature store."""
