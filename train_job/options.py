"""What one training run is asked to do."""

from dataclasses import asdict, dataclass
from typing import Any

from train_job.split import Shares

DEFAULT_SPLIT = Shares(80, 10, 10)


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``transferlite train``, by the same names; see ``transferlite train --help``."""

    images: str
    registry: str
    labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    x_col: str = "File Name"
    y_col: str = "Label"
    classes: tuple[str, ...] = ()
    split: Shares = DEFAULT_SPLIT
    backbone: str = "efficientnet_lite0"
    weights: str = "default"
    image_size: int | None = None
    hidden_units: int = 1024
    epochs: int = 100
    steps_per_epoch: int | None = None
    batch_size: int = 50
    optimizer: str = "rmsprop"
    learning_rate: float | None = None
    seed: int = 0
    augment: str = "none"
    fail_over: float = 0.5
    channel: str = "production"

    def to_dict(self) -> dict[str, Any]:
        """The form kept in the manifest."""
        return asdict(self) | {"split": str(self.split), "classes": list(self.classes)}
