"""Golden vectors: test pictures in a bundle and what the gate had each variant say of them, asked again at every load.

A device whose runtime or processor computes a model wrongly, as some do without any error, is told before it answers.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transferlite.errors import BundleError, PhotoError
from transferlite.inference.variants import base_variant

if TYPE_CHECKING:  # a start need not wait for it
    from numpy.typing import NDArray

TOLERANCE = 0.25
"""How far a probability of a quantised variant may be off.

Kernels round differently in each runtime and on each processor, layer after layer. Measured on 6 int8 models and 16
pictures: 0.10 at most between LiteRT's XNNPACK kernels, its built-in ones and tflite-runtime 2.14's, all on x86_64; of
dynamic files 0.03. On ARM, emulated, one model: 0.02, dynamic 0.03 of tflite-runtime 2.14; 0, dynamic 0.01 of LiteRT.
"""

EXACT_TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "float16": 1e-2}
"""The same of variants that compute in float32, where only the order of sums differs. As above: 3e-6; on ARM 5e-7.

Where the processor can, a runtime may be told to compute a float16 file in halves, whose step is 1e-3.
"""


class SelfTest(NamedTuple):
    """Test pictures and what was said of them.

    Attributes:
        pictures: encoded ones, of any size.
        expected: by variant, the probabilities ``[pictures, N]``.
    """

    pictures: tuple[bytes, ...]
    expected: Mapping[str, NDArray[np.float32]]

    def to_json(self) -> bytes:
        """The form stored in a bundle."""
        expected = {name: [[round(float(p), 7) for p in row] for row in rows] for name, rows in self.expected.items()}
        pictures = [binascii.b2a_base64(picture, newline=False).decode() for picture in self.pictures]
        return json.dumps({"pictures": pictures, "expected": expected}).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "") -> SelfTest:
        """Read the stored form. Raises BundleError when it is damaged."""
        try:
            raw = json.loads(data)
            pictures = tuple(binascii.a2b_base64(picture, strict_mode=True) for picture in raw["pictures"])
            expected = {name: np.array(rows, np.float32) for name, rows in raw["expected"].items()}
        except (ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
            raise BundleError(f"the test pictures cannot be read ({error})", where=where) from error
        if not pictures or any(rows.ndim != 2 or len(rows) != len(pictures) for rows in expected.values()):
            raise BundleError("the test pictures and their answers do not go together", where=where)
        return cls(pictures, expected)

    def check(self, variant: str, answers: Callable[[bytes], NDArray[np.float32]], where: str = "") -> float:
        """Ask a loaded variant again; ``answers`` gives the probabilities ``[N]`` of an encoded picture.

        Of a variant that computes in float32 the first picture is asked, of which the model is least sure: at so fine a
        tolerance another one adds a forward pass to each start and nothing else. Returns the largest difference.

        Raises:
            BundleError: it is over the variant's tolerance, or there are no answers for this variant.
        """
        if variant not in self.expected:
            raise BundleError(f"holds no answers of {variant} to its test pictures", where=where)
        asked = self.pictures[:1] if variant in EXACT_TOLERANCES else self.pictures
        try:
            found = np.stack([answers(picture) for picture in asked])
        except PhotoError as error:
            raise BundleError(f"a test picture cannot be used ({error.message})", where=where) from error
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"does not answer its test pictures ({error})", where=where) from error
        expected = self.expected[variant][: len(asked)]
        if found.shape != expected.shape:
            raise BundleError("the answers to its test pictures are of other labels", where=where)
        difference = float(np.abs(found.astype(np.float64) - expected).max())
        tolerance = EXACT_TOLERANCES.get(base_variant(variant), TOLERANCE)
        if not difference <= tolerance:  # NaN is not
            raise BundleError(
                f"does not answer its test pictures as it did where it was made: a probability differs by"
                f" {difference:.2g} (limit {tolerance:g})",
                where=where,
                hint="the runtime computes it wrongly here: try another variant or release of the runtime",
            )
        return difference
