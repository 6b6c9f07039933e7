"""Our predictor in another Python, maybe of an emulated processor: run by its path, with ``runtime`` beside.

``python predictor_side.py BUNDLE VARIANT PATHS.txt PIXELS.npy ANSWERS.npy``; PATHS are photos, which are decoded there,
PIXELS uint8 ``[N, H, W, 3]`` what they were decoded to here. The answers are probabilities ``[N, C]``; a line of JSON
says by what they were made, and how far the test pictures' answers and the pixels are off.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from transferlite.images.decoder import decode
from transferlite.inference.interpreter import runtime_version
from transferlite.predict.predictor import Predictor
from transferlite.predict.self_test import SelfTest


def main() -> None:
    """Load the bundle, which runs its self-test, and predict the photos."""
    bundle, variant, paths, pixels, target = sys.argv[1:]
    predictor = Predictor.load(bundle, variant, threads=1)
    manifest = predictor.manifest
    self_test = SelfTest.from_json((Path(bundle) / str(manifest.golden)).read_bytes())
    photos = [decode(Path(path).read_bytes(), manifest.input) for path in Path(paths).read_text().splitlines()]
    np.save(target, np.stack([predictor.probabilities(photo) for photo in photos]))
    off = int(np.abs(np.stack(photos).astype(np.int16) - np.load(pixels)).max())
    said = {"runtime": runtime_version(), "python": platform.python_version(), "cpu": platform.machine()}
    print(json.dumps({**said, "golden": self_test.check(variant, predictor.probabilities), "pixels": off}))


if __name__ == "__main__":
    main()
