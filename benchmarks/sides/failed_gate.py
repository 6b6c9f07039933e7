"""``transferlite train`` whose gate fails: the Keras model's predictions are replaced by others."""

import sys
from typing import Any

import numpy as np

from train_job.pipeline import export_variants
from transferlite.cli.main import run


def wrong_reference(*_: Any) -> Any:
    """A reference that no exported file agrees with."""
    return lambda photos: np.ones((len(photos), 2), np.float32)


if __name__ == "__main__":
    vars(export_variants)["_reference"] = wrong_reference
    sys.exit(run(["train", *sys.argv[1:]]))
