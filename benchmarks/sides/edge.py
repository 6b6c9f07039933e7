"""Sides of ``benchmarks.edge``: our predictor, and the bare packages. Run as a script by an edge installation's Python.

Each side imports only what it needs, because its imports are measured.
"""

import time

STARTED = time.perf_counter()

import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

Predict = Callable[[bytes], str]
"""A photo's bytes -> its label."""

THREADS = 1


def ours(bundle: str, variant: str) -> Predict:
    """Load a verified bundle with our predictor."""
    from transferlite import Predictor

    predictor = Predictor.load(bundle, variant, THREADS)
    return lambda data: predictor(data).label


def bare(bundle: str, variant: str) -> Predict:
    """Load the model by hand with NumPy, Pillow and ai-edge-litert: the same predictions without any checks."""
    import io

    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_path=f"{bundle}/{variant}.tflite", num_threads=THREADS)
    interpreter.allocate_tensors()
    (image_input,), (output, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    _, height, width, _ = image_input["shape"]
    labels = Path(bundle, "labels.txt").read_text().splitlines()

    def predict(data: bytes) -> str:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        interpreter.set_tensor(image_input["index"], np.asarray(image)[None])
        interpreter.invoke()
        return labels[int(interpreter.get_tensor(output["index"])[0].argmax())]

    return predict


SIDES: dict[str, Callable[[str, str], Predict]] = {"ours": ours, "bare": bare}


def peak_kib() -> int:
    """Peak resident memory of this process in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def first(side: str, bundle: str, variant: str, photo: str) -> None:
    """Predict one photo; print its label and the seconds since this script started."""
    label = SIDES[side](bundle, variant)(Path(photo).read_bytes())
    print(f'{{"label": "{label}", "seconds": {time.perf_counter() - STARTED}}}')


def warm(side: str, bundle: str, variant: str, *photos: str) -> None:
    """For each line of standard input, predict all photos; print the seconds of each, and the peak memory."""
    predict = SIDES[side](bundle, variant)
    blobs = [Path(photo).read_bytes() for photo in photos]
    for _ in sys.stdin:
        seconds = []
        for blob in blobs:
            start = time.perf_counter()
            predict(blob)
            seconds.append(time.perf_counter() - start)
        print(f'{{"seconds": {seconds}, "peak_kib": {peak_kib()}}}', flush=True)


if __name__ == "__main__":
    (warm if sys.argv[1] == "warm" else first)(*sys.argv[2:])
