"""Write a frozen backbone as a TFLite file, layer by layer, without the converter."""
