"""Predict photos with one TFLite file in one runtime. Run as a script in that runtime's environment, with NumPy only.

``python runtime_side.py RUNTIME MODEL.tflite PHOTOS PROBABILITIES.npy``: PHOTOS is a ``.npy`` file with uint8
``[N, H, W, 3]`` of the model's size. For MediaPipe it may be a text file with paths instead; MediaPipe then decodes and
resizes them itself. Writes the probabilities ``[N, C]`` and prints a line of JSON with the runtime.
"""

import importlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

INTERPRETERS = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}


def predict_with_interpreter(module: str, model: str, photos: Any) -> Any:
    """Predict pixels with a runtime that has TFLite's Interpreter class."""
    interpreter = importlib.import_module(module).Interpreter(model_path=model)
    interpreter.allocate_tensors()
    (image,), (output, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = output["quantization"]
    probabilities = []
    for photo in photos:
        interpreter.set_tensor(image["index"], photo[None])
        interpreter.invoke()
        raw = interpreter.get_tensor(output["index"])[0].astype(np.float32)
        probabilities.append((raw - zero) * scale if scale else raw)
    return np.stack(probabilities)


def predict_with_mediapipe(model: str, photos: Any) -> Any:
    """Predict pixels or files with MediaPipe Tasks' ImageClassifier; also returns the labels that it read."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
    scores: list[dict[int, float]] = []
    labels: dict[int, str] = {}
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for photo in photos:
            image = (
                mediapipe.Image.create_from_file(photo)
                if isinstance(photo, str)
                else mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(photo))
            )
            categories = classifier.classify(image).classifications[0].categories
            scores.append({category.index: category.score for category in categories})
            labels |= {category.index: category.category_name for category in categories}
    width = max(labels) + 1
    rows = [[row.get(index, 0.0) for index in range(width)] for row in scores]
    return np.array(rows, np.float32), [labels.get(index, "") for index in range(width)]


def main() -> None:
    """Predict the photos, and print the runtime."""
    runtime, model, source, target = sys.argv[1:]
    photos = np.load(source) if source.endswith(".npy") else Path(source).read_text().splitlines()
    labels: list[str] = []
    if runtime == "mediapipe":
        probabilities, labels = predict_with_mediapipe(model, photos)
    else:
        probabilities = predict_with_interpreter(INTERPRETERS[runtime], model, photos)
    np.save(target, probabilities)
    info = {"runtime": f"{runtime} {version(runtime)}", "labels": labels}
    print(json.dumps({**info, "python": platform.python_version(), "cpu": platform.machine()}))


if __name__ == "__main__":
    main()
