"""Self-test of a model: photos in the bundle with the probabilities that each variant gave in the export gate.

Every load predicts them again. This catches a runtime or processor that computes a model wrongly without an error,
before the first prediction is returned.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transferlite.errors import BundleError, PhotoError
from transferlite.inference.variants import base_variant

if TYPE_CHECKING:  # keeps the import out of a cold start
    from numpy.typing import NDArray

TOLERANCE = 0.25
"""Maximum difference of a probability for quantised variants.

Kernels round differently in each runtime and on each processor, layer after layer. Measured on 6 int8 models and 16
photos: at most 0.10 between LiteRT's XNNPACK kernels, its built-in kernels and tflite-runtime 2.14, all on x86_64; 0.03
for dynamic files. On emulated ARM, one model: 0.02 (dynamic 0.03) for tflite-runtime 2.14, 0 (dynamic 0.01) for LiteRT.
"""

EXACT_TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "float16": 1e-2}
"""Maximum difference of a probability for variants that compute in float32, where only the order of sums differs.

Measured as above: 3e-6, and 5e-7 on ARM. A runtime may compute a float16 file in half precision, whose step is 1e-3.
"""


class SelfTest(NamedTuple):
    """Photos and their expected probabilities.

    Attributes:
        photos: encoded, of any size.
        expected: probabilities ``[photos, N]`` by variant.
    """

    photos: tuple[bytes, ...]
    expected: Mapping[str, NDArray[np.float32]]

    def to_json(self) -> bytes:
        """Serialise for the bundle."""
        expected = {name: [[round(float(p), 7) for p in row] for row in rows] for name, rows in self.expected.items()}
        photos = [binascii.b2a_base64(photo, newline=False).decode() for photo in self.photos]
        return json.dumps({"pictures": photos, "expected": expected}).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> SelfTest:
        """Read what :meth:`to_json` wrote. Raises BundleError if it is damaged."""
        try:
            raw = json.loads(data)
            photos = tuple(binascii.a2b_base64(photo, strict_mode=True) for photo in raw["pictures"])
            expected = {name: np.array(rows, np.float32) for name, rows in raw["expected"].items()}
        except (ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
            raise BundleError(f"the self-test cannot be read ({error})", where=where) from error
        if not photos or any(rows.ndim != 2 or len(rows) != len(photos) for rows in expected.values()):
            raise BundleError("the self-test has no photos, or not one row of probabilities per photo", where=where)
        return cls(photos, expected)

    def check(self, variant: str, predict: Callable[[bytes], NDArray[np.float32]], where: str = "") -> float:
        """Predict the photos with a loaded variant and return the largest difference of a probability.

        Variants that compute in float32 predict the first photo only, the least certain: at their fine tolerance a
        second forward pass would lengthen each start and detect nothing more.

        Args:
            variant: name of the loaded variant.
            predict: maps an encoded photo to its probabilities ``[N]``.
            where: the file, for error messages.

        Raises:
            BundleError: the difference exceeds the variant's tolerance, the model or decoder fails, or the self-test
                has no probabilities for this variant.
        """
        if variant not in self.expected:
            raise BundleError(f"the self-test has no probabilities for {variant}", where=where)
        photos = self.photos[:1] if variant in EXACT_TOLERANCES else self.photos
        try:
            probabilities = np.stack([predict(photo) for photo in photos])
        except PhotoError as error:
            raise BundleError(f"a self-test photo cannot be decoded ({error.message})", where=where) from error
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"self-test failed: the model does not run ({error})", where=where) from error
        expected = self.expected[variant][: len(photos)]
        if probabilities.shape != expected.shape:
            raise BundleError("self-test failed: the number of labels differs from the reference", where=where)
        difference = float(np.abs(probabilities.astype(np.float64) - expected).max())
        tolerance = EXACT_TOLERANCES.get(base_variant(variant), TOLERANCE)
        if not difference <= tolerance:  # also true for NaN
            raise BundleError(
                f"self-test failed: probability differs from the reference by {difference:.2g} (limit {tolerance:g})",
                where=where,
                hint="this runtime computes the model wrongly: try another variant, or another release of the runtime",
            )
        return difference
