"""Write a backbone as a TFLite file, layer by layer, without the official converter."""
