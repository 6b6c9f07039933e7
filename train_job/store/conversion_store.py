"""Files made from a frozen backbone, kept beside the feature store so that it is converted only once."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transferlite.errors import NotFoundError
from transferlite.storage.store import Store, join_uri


@dataclass(frozen=True)
class ConversionStore:
    """Conversions by what they depend on: ``conversions/<id of the key>/<sha256 of the content>``.

    Attributes:
        store: the feature store's store.
        warn: receives a message for each damaged file, which is then ignored.
    """

    store: Store
    warn: Callable[[str], None]

    def read(self, key: Mapping[str, Any]) -> bytes | None:
        """Read the conversion of a key of JSON values; None if it is missing or damaged."""
        folder = _folder(key)
        for entry in self.store.entries(folder):
            try:
                content = self.store.get(entry.key).data
            except NotFoundError:
                continue
            if entry.key == folder + _digest(content):
                return content
            self.warn(f"{join_uri(self.store.uri, entry.key)}: damaged file ignored; delete it")
        return None

    def write(self, key: Mapping[str, Any], content: bytes) -> None:
        """Write the conversion of a key; writing it again replaces a damaged file."""
        self.store.put(_folder(key) + _digest(content), content)

    def read_or_make(self, key: Mapping[str, Any], make: Callable[[], bytes]) -> bytes:
        """Read the conversion of a key, or make and write it."""
        content = self.read(key)
        if content is None:
            content = make()
            self.write(key, content)
        return content


def _folder(key: Mapping[str, Any]) -> str:
    return f"conversions/{_digest(json.dumps(key, sort_keys=True).encode())}/"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
