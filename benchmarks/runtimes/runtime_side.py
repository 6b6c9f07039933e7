"""One TFLite file on one runtime: run by its path in that runtime's environment, with nothing but NumPy beside it.

``python runtime_side.py RUNTIME MODEL.tflite PHOTOS ANSWERS.npy``; PHOTOS are uint8 ``[N, H, W, 3]`` of the model's
size in a ``.npy`` file, or, of MediaPipe, which decodes and resizes by itself, also the paths of photos in a text file.
The answers are probabilities ``[N, C]``; a line of JSON says by what they were made.
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


def interpreted(module: str, model: str, photos: Any) -> Any:
    """The answers of an interpreter of TFLite's own API to pixels."""
    interpreter = importlib.import_module(module).Interpreter(model_path=model)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = output["quantization"]
    answers = []
    for photo in photos:
        interpreter.set_tensor(image["index"], photo[None])
        interpreter.invoke()
        raw = interpreter.get_tensor(output["index"])[0].astype(np.float32)
        answers.append((raw - zero) * scale if scale else raw)
    return np.stack(answers)


def classified(model: str, photos: Any) -> Any:
    """The answers of MediaPipe Tasks' ImageClassifier to pixels or to files, and the labels it has read, by index."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
    answers: list[dict[int, float]] = []
    labels: dict[int, str] = {}
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for photo in photos:
            image = (
                mediapipe.Image.create_from_file(photo)
                if isinstance(photo, str)
                else mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(photo))
            )
            found = classifier.classify(image).classifications[0].categories
            answers.append({one.index: one.score for one in found})
            labels |= {one.index: one.category_name for one in found}
    width = max(labels) + 1
    rows = [[row.get(index, 0.0) for index in range(width)] for row in answers]
    return np.array(rows, np.float32), [labels.get(index, "") for index in range(width)]


def main() -> None:
    """Answer, and say by what."""
    runtime, model, source, target = sys.argv[1:]
    photos = np.load(source) if source.endswith(".npy") else Path(source).read_text().splitlines()
    labels: list[str] = []
    if runtime == "mediapipe":
        answers, labels = classified(model, photos)
    else:
        answers = interpreted(INTERPRETERS[runtime], model, photos)
    np.save(target, answers)
    where = {"python": platform.python_version(), "cpu": platform.machine()}
    print(json.dumps({"runtime": f"{runtime} {version(runtime)}", "labels": labels, **where}))


if __name__ == "__main__":
    main()
