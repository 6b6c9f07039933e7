"""Labelled photos: the dataset, its split, fetching and decoding, facts and augmentation."""
