"""Sizes of the seed job, the reference workload that this project started from, and the backbones it is measured with.

200 photos, 100 epochs of 10 steps, batches of 50; a frozen backbone with a head of Dense 1024 and Dense 2.
"""

from dataclasses import dataclass

PHOTOS, EPOCHS, STEPS_PER_EPOCH, BATCH = 200, 100, 10, 50
STEPS = EPOCHS * STEPS_PER_EPOCH


@dataclass(frozen=True)
class Case:
    """A backbone with its weights option, its input size in pixels, and the width of its feature rows."""

    backbone: str
    weights: str
    size: int
    width: int

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.backbone} {self.size}"

    @property
    def options(self) -> list[str]:
        """Command-line options that select it in a benchmark's side."""
        return ["--backbone", self.backbone, "--weights", self.weights, "--size", str(self.size)]


CASES = (Case("efficientnet_lite0", "default", 224, 1280), Case("inception_v3", "none", 256, 2048))
"""InceptionV3 runs at the seed job's original 256 pixels, with random weights: ImageNet's need a download, and weights
do not influence the time."""
