"""The gate: check before publishing that every exported variant predicts what the trained Keras model predicts.

Exporting can silently change a model: a converter or a runtime may compute an operation wrongly, and int8 rounding may
cost accuracy. So each variant predicts held-out photos in each runtime, and its predictions are compared with the Keras
model's. The SavedModel and the float32 file must agree exactly, up to rounding errors: otherwise the job fails. A
float16, dynamic or int8 file that exceeds its limits is left out of the version.
"""
