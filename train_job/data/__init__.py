"""Labelled photos: the data set, its split, fetching, decoding, photo facts and augmentation."""
