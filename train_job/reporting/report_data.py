"""What the report and the model card are made of: the facts of one version, its pictures already small JPEGs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from train_job.data.dataset import RejectedPhoto
from train_job.reporting.cost import CostReceipt
from transferlite.registry.manifest import Manifest

if TYPE_CHECKING:
    from train_job.head.recipe import Epoch


@dataclass(frozen=True)
class Mistake:
    """A test photo that the model was sure of, and wrong about. ``heat_map`` shows what spoke for ``predicted``."""

    uri: str
    label: str
    predicted: str
    confidence: float
    thumbnail: bytes = b""
    heat_map: bytes = b""


@dataclass(frozen=True)
class LabelIssuePhoto:
    """A photo whose label looks wrong; ``score`` is the probability of its label, 0 to 1."""

    uri: str
    label: str
    suggested: str
    score: float
    row: int | None = None
    thumbnail: bytes = b""


@dataclass(frozen=True)
class NearDuplicate:
    """One photo of a group that look alike."""

    uri: str
    label: str
    split: str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True)
class ReportData:
    """The facts of one version.

    Attributes:
        manifest: before it is sealed.
        evaluation: the content of the evaluation record: ``models`` by name, ``calibration``, ``abstention`` and
            ``folds``; any of them may be missing.
        history: what each epoch measured.
        rejects: what is not used.
        findings: of the check: counts by code as ``codes``, or as ``rejects`` and ``notes``; ``leakage`` as groups of
            URIs, or as ``image`` with its ``reason``.
        mistakes: the most confident first.
        suspects: the worst first.
        near_duplicates: groups with thumbnails.
        seconds: by phase; ``total`` is the whole.
        receipt: what the run cost.
        comparison: with the version that the channel names; None where there was none.
    """

    manifest: Manifest
    evaluation: Mapping[str, Any]
    history: "Sequence[Epoch]" = ()
    rejects: Sequence[RejectedPhoto] = ()
    findings: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
    suspects: Sequence[LabelIssuePhoto] = ()
    near_duplicates: Sequence[Sequence[NearDuplicate]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    receipt: CostReceipt | None = None
    comparison: Mapping[str, Any] | None = None

    @property
    def keras(self) -> Mapping[str, Any]:
        """The Keras model's evaluation on the test photos; the manifest's own figures where there is no other."""
        models = self.evaluation.get("models") or {}
        found: Mapping[str, Any] = models.get("keras") or self.manifest.metrics.get("test") or {}
        return found
