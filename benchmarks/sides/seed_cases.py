"""What the seed's job is: 200 photos x 100 epochs x 10 steps of 50 on a frozen base, head Dense 1024 and Dense 2."""

from dataclasses import dataclass

PHOTOS, EPOCHS, STEPS_PER_EPOCH, BATCH = 200, 100, 10, 50
STEPS = EPOCHS * STEPS_PER_EPOCH


@dataclass(frozen=True)
class Case:
    """A backbone, where its weights come from, the size of its input, and how many numbers a row has."""

    backbone: str
    weights: str
    size: int
    width: int

    @property
    def name(self) -> str:
        """For people to read."""
        return f"{self.backbone} {self.size}"

    @property
    def words(self) -> list[str]:
        """The options that name it to a benchmark's side."""
        return ["--backbone", self.backbone, "--weights", self.weights, "--size", str(self.size)]


CASES = (Case("efficientnet_lite0", "default", 224, 1280), Case("inception_v3", "none", 256, 2048))
"""InceptionV3 at the seed's own 256 pixels, without weights: they cannot be had everywhere, and cost no time."""
