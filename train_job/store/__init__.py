"""The feature store: each photo's feature rows, kept by content so that no photo is forwarded twice."""
