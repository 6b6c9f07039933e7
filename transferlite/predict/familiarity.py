"""Score how much a photo is like the training photos, from its feature row and its probabilities, with NumPy alone.

The score adds two standardised numbers: the logarithm of the highest probability, and :data:`NEAREST_WEIGHT` times the
closeness of the nearest of some training rows. The probability alone misses photos of another world, and the distance
alone misses photos of a new class among similar ones (``python -m benchmarks.out_of_distribution``).
``train_job/evaluation/fit_familiarity.py`` fits it, and ``export/browser/web/familiarity.js`` computes it too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferlite.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAREST_WEIGHT = 1.5
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a number over the validation photos."""

    mean: float
    std: float

    def __call__(self, value: Any) -> Any:
        """Standardise a number or an array of numbers."""
        return (value - self.mean) / self.std


@dataclass(frozen=True, eq=False)
class Familiarity:
    """The fitted score.

    Rows are scaled to length 1 and projected on principal components of the training rows. What the projection drops is
    kept as one number per row, the squared length of the rest, so that distances stay close to those of whole rows.

    Attributes:
        mean: of the training rows ``[D]``.
        components: principal components ``[D, K]``.
        references: projected training rows ``[M, K]``.
        rests: squared lengths of what the projection drops of them ``[M]``.
        confidence: scale of the logarithm of the highest probability.
        closeness: scale of the negative squared distance to the nearest reference.
        threshold: score below which a photo is unlike the training photos.
        rejected: share of the validation photos below the threshold that it was fitted for.
        photos: number of validation photos.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    references: NDArray[np.float32]
    rests: NDArray[np.float32]
    confidence: Scale
    closeness: Scale
    threshold: float
    rejected: float
    photos: int

    def score(self, row: NDArray[np.float32], probabilities: NDArray[np.float32]) -> float:
        """Return the score of a photo with the feature row ``[D]`` and the probabilities ``[C]``; 0 is usual."""
        return float(self.scores(row[None], probabilities[None])[0])

    def scores(self, rows: NDArray[np.float32], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores ``[N]`` of photos with feature rows ``[N, D]`` and probabilities ``[N, C]``."""
        confidence, closeness = self.confidence(log_confidence(probabilities)), self.closeness(self.nearest(rows))
        return np.asarray(confidence + NEAREST_WEIGHT * closeness, np.float32)

    def nearest(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the negative squared distance to the nearest reference ``[N]`` of rows ``[N, D]``."""
        projected, rests = project(rows, self.mean, self.components)
        squares = (self.references**2).sum(axis=1) + self.rests
        least = (squares - 2 * projected @ self.references.T).min(axis=1)
        return np.asarray(-(least + (projected**2).sum(axis=1) + rests), np.float32)

    def to_bytes(self) -> bytes:
        """Return the stored form: a line of JSON, padded to an even length, then the arrays as float16."""
        head = {
            "schema": 1,
            "width": self.components.shape[0],
            "components": self.components.shape[1],
            "references": len(self.references),
            "nearest_weight": NEAREST_WEIGHT,
            "least_probability": _LEAST_PROBABILITY,
            "confidence": asdict(self.confidence),
            "closeness": asdict(self.closeness),
            "threshold": self.threshold,
            "rejected": self.rejected,
            "photos": self.photos,
        }
        line = json.dumps(head).encode()
        arrays = (self.mean, self.components, self.references, self.rests)
        return line + b" " * (1 - len(line) % 2) + b"\n" + b"".join(a.astype("<f2").tobytes() for a in arrays)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "") -> Familiarity:
        """Parse the stored form. Raises BundleError if it is damaged."""
        try:
            line, _, body = data.partition(b"\n")
            head = json.loads(line)
            width, kept, count = head["width"], head["components"], head["references"]
            values = np.frombuffer(body, "<f2").astype(np.float32)
            mean, components, references, rests = np.split(
                values, np.cumsum([width, width * kept, count * kept]).tolist()
            )
            if len(rests) != count or not count:
                raise ValueError("it is too short or too long")
            return cls(
                mean,
                components.reshape(width, kept),
                references.reshape(count, kept),
                rests,
                Scale(**head["confidence"]),
                Scale(**head["closeness"]),
                head["threshold"],
                head["rejected"],
                head["photos"],
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(f"the familiarity score cannot be read ({error})", where=where) from error


def log_confidence(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of the highest probability ``[N]`` of probabilities ``[N, C]``."""
    return np.asarray(np.log(np.maximum(probabilities.max(axis=1), _LEAST_PROBABILITY)), np.float32)


def project(
    rows: NDArray[np.float32], mean: NDArray[np.float32], components: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale rows ``[N, D]`` to length 1 and project them; return ``[N, K]``, and the squared length of the rest."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    centred = rows / np.maximum(lengths, 1e-12)[:, None] - mean
    projected = centred @ components
    rests = np.einsum("nd,nd->n", centred, centred) - np.einsum("nk,nk->n", projected, projected)
    return projected, np.maximum(rests, 0)
