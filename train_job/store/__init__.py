"""The feature store: feature rows by photo content, so that the backbone processes no photo twice."""
