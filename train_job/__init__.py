"""Labels and photos in, a trained and published model out. TensorFlow lives here and in ``export``."""
