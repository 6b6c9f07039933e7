"""Run our predictor in another Python, possibly of an emulated processor. Run as a script.

``python predictor_side.py BUNDLE VARIANT PATHS.txt PIXELS.npy PROBABILITIES.npy``: PATHS lists the photos to decode and
predict, PIXELS has them as decoded by the calling Python, uint8 ``[N, H, W, 3]``. Writes the probabilities ``[N, C]``.
Prints a line of JSON with the runtime, and the largest differences of the self-test's probabilities and of the pixels.
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
    difference = int(np.abs(np.stack(photos).astype(np.int16) - np.load(pixels)).max())
    info = {"runtime": runtime_version(), "python": platform.python_version(), "cpu": platform.machine()}
    golden = self_test.check(variant, predictor.probabilities)
    print(json.dumps({**info, "golden": golden, "pixels": difference}))


if __name__ == "__main__":
    main()
