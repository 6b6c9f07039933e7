"""Options of a training run, and the one place of their defaults."""

from dataclasses import asdict, dataclass
from typing import Any

from train_job.data.split import SplitShares
from transferlite.images.input_spec import SQUASH
from transferlite.inference.prediction import NEGATIVE_CLASS
from transferlite.inference.variants import TFLITE_VARIANTS
from transferlite.storage.store import join_uri

DEFAULT_SPLIT = SplitShares(80, 10, 10)


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``transferlite train``; ``transferlite train --help`` describes each under the same name.

    The commands take their defaults from here.
    """

    images: str
    registry: str
    labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None
    x_col: str | None = None
    y_col: str | None = None
    split_col: str | None = None
    classes: tuple[str, ...] = ()
    merge_labels: str | None = None
    split: SplitShares = DEFAULT_SPLIT
    backbone: str = "efficientnet_lite0"
    weights: str = "default"
    image_size: int | None = None
    resize: str = SQUASH
    hidden_units: int = 1024
    epochs: int = 100
    steps_per_epoch: int | None = None
    batch_size: int = 50
    optimizer: str = "rmsprop"
    learning_rate: float | None = None
    schedule: str = "constant"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    early_stopping: int | None = None
    keep_best: bool = False
    warm_start: bool = False
    seed: int = 0
    augment: str = "none"
    views: int = 1
    fine_tune_from: str | None = None
    fine_tune_epochs: int = 10
    fine_tune_learning_rate: float = 1e-4
    features: str | None = None
    memory_limit: int = 2**30
    folds: int = 0
    precision: float | None = None
    reject_unlike: float | None = None
    negative_class: str = NEGATIVE_CLASS
    fail_over: float = 0.5
    channel: str = "production"
    promote: str = "auto"
    tolerance: float = 0.02
    signing_key: str | None = None
    variants: tuple[str, ...] = TFLITE_VARIANTS
    batch: int = 1
    max_accuracy_drop: float = 0.01
    max_recall_drop: float = 0.1
    min_agreement: float = 0.95
    max_difference: float = 1.0
    legacy_python: str | None = None

    @property
    def feature_store(self) -> str:
        """Location of the feature store: ``features``, or beside the models by default."""
        return self.features or join_uri(self.registry, "features")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON values for the manifest, without the signing key."""
        lists = {"classes": list(self.classes), "variants": list(self.variants)}
        values = asdict(self) | {"split": str(self.split), **lists}
        del values["signing_key"]
        return values
