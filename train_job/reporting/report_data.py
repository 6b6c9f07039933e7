"""Input of the report and the model card: the facts of one version, with thumbnails as JPEGs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from train_job.data.example import RejectedPhoto
from train_job.reporting.cost import CostReceipt
from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:
    from train_job.head.recipe import Epoch


@dataclass(frozen=True)
class Mistake:
    """A test photo that the model predicted wrongly; ``heat_map`` is its Grad-CAM overlay for ``predicted``."""

    uri: str
    label: str
    predicted: str
    confidence: float
    thumbnail: bytes = b""
    heat_map: bytes = b""


@dataclass(frozen=True)
class LabelIssuePhoto:
    """A photo that is probably labelled wrong; ``score`` is the probability of its label, 0 to 1."""

    uri: str
    label: str
    suggested: str
    score: float
    row: int | None = None
    thumbnail: bytes = b""


@dataclass(frozen=True)
class NearDuplicate:
    """A photo in a group of near-duplicates."""

    uri: str
    label: str
    split: str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True)
class ReportData:
    """The facts of one version.

    Attributes:
        manifest: the manifest before it is sealed.
        evaluation: content of evaluation.json: ``models`` by name, ``calibration``, ``abstention`` and ``folds``, all
            optional.
        history: metrics of each epoch.
        rejected_photos: photos and rows that cannot be used.
        findings: findings of the data check: counts by code as ``codes``, or as ``rejects`` and ``notes``;
            ``leakage`` as groups of URIs, or as ``image`` with its ``reason``.
        mistakes: wrong predictions, the most confident first.
        label_issues: photos probably labelled wrong, the least probable label first.
        near_duplicates: groups of near-duplicates.
        seconds: seconds by phase, and ``total``.
        receipt: cost of the run.
        comparison: comparison with the channel's current version; None if the channel has none.
    """

    manifest: Manifest
    evaluation: Mapping[str, Any]
    history: "Sequence[Epoch]" = ()
    rejected_photos: Sequence[RejectedPhoto] = ()
    findings: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
    label_issues: Sequence[LabelIssuePhoto] = ()
    near_duplicates: Sequence[Sequence[NearDuplicate]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    receipt: CostReceipt | None = None
    comparison: Mapping[str, Any] | None = None

    @property
    def test_metrics(self) -> Mapping[str, Any]:
        """The Keras model's metrics on the test photos, from the evaluation or else from the manifest."""
        models = self.evaluation.get("models") or {}
        metrics: Mapping[str, Any] = models.get("keras") or self.manifest.metrics.get("test") or {}
        return metrics
