"""Schema numbers of manifests and pointers.

A release that adds a field leaves the number as it is: older releases ignore the field and keep it when they write. A
release whose documents older ones must not read raises the number, and writes the first release that reads it.
"""

from collections.abc import Mapping
from typing import Any

from transferlite import __version__
from transferlite.errors import BundleError

SCHEMA = 1
MIN_RELEASE = "0.1.0"
"""First release that reads this schema."""


def check_schema(raw: Mapping[str, Any], document: str) -> None:
    """Raise BundleError, naming the release to install, if this release must not read the document."""
    schema = raw["schema"]
    if type(schema) is not int or schema < 1:
        raise BundleError(f"{document} schema {schema!r} is not supported; this release reads {SCHEMA}")
    if schema > SCHEMA:
        newer = f"TransferLite {raw['min_release']} or newer" if "min_release" in raw else "a newer TransferLite"
        raise BundleError(
            f"{document} schema {schema} is not supported; this release, {__version__}, reads {SCHEMA}",
            hint=f"install {newer}",
        )
