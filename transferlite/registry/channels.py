"""``Channels``: promote a model version, roll back, and read what a channel points to.

A channel is one small object, replaced by compare-and-swap, so that readers never see half a change.
"""

import random
import re
import time
from dataclasses import dataclass

from transferlite.errors import (
    BundleError,
    ConflictError,
    InputError,
    MissingStoreError,
    NotFoundError,
    UntrustedError,
)
from transferlite.registry.channel_pointer import (
    Pointer,
    accept_pointer,
    check_not_replayed,
    check_pointer,
    next_pointer,
)
from transferlite.registry.versions import Versions, utc_now
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import Blob

_CHANNEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_PREVIOUS = 20
"""Previous versions that a pointer remembers."""
_MAX_ATTEMPTS = 20
"""Compare-and-swap attempts of a promotion."""


@dataclass(frozen=True)
class Channels(Versions):
    """Channels of a store, and the model versions that they point to."""

    def channels(self) -> dict[str, Pointer]:
        """Read every channel's pointer, by the channel's name."""
        keys = (entry.key for entry in self.store.entries("channels/"))
        names = (key.removeprefix("channels/").removesuffix(".json") for key in keys if key.endswith(".json"))
        return {name: self.channel(name) for name in names if _CHANNEL_NAME.fullmatch(name)}

    def channel(self, name: str) -> Pointer:
        """Read a channel's pointer. Raises the errors of :meth:`followed_channel`."""
        return self.followed_channel(name)[0]

    def followed_channel(self, name: str, known: tuple[Pointer, str] | None = None) -> tuple[Pointer, str]:
        """Read a channel's pointer and its ETag; return ``known`` if the pointer still has that ETag.

        Raises:
            NotFoundError: the channel does not exist.
            UntrustedError: none of ``keys`` signed the pointer, it belongs to another channel, or it is older than
                ``known``.
        """
        key = _channel_key(name)
        try:
            changed = self.store.get(key) if known is None else self.store.get_changed(key, known[1])
        except MissingStoreError:
            raise
        except NotFoundError as error:
            self.check_exists()
            hint = error.hint or self._no_channel_hint()
            raise NotFoundError(f"there is no channel {name!r}", where=self.store.uri, hint=hint) from None
        if changed is None:
            assert known is not None
            return known
        pointer, etag = self._parse_pointer(key, changed)
        if self.keys is not None:
            check_pointer(pointer, name, self.keys, f"{self.store.uri}/{key}")
            check_not_replayed(pointer, known[0].sequence if known else 0, f"{self.store.uri}/{key}")
        return pointer, etag

    def _no_channel_hint(self) -> str:
        if isinstance(self.store, FolderStore) and not any(self.store.root.iterdir()):
            return "the folder is empty: mount its disk, or train a first model"
        return "train a model or promote one to it first"

    def loses_history(self, channel: str) -> bool:
        """Return whether a promotion would drop the channel's history because no accepted key signed its pointer.

        Raises:
            InputError: the channel is signed, and there is no signer, so that a promotion would be refused.
        """
        pointer, _ = self._read_channel(channel)
        return pointer is not None and self._accepted_pointer(channel, pointer) is None

    def promote(self, model_id: str, channel: str) -> Pointer:
        """Point ``channel`` to a version. Concurrent promotions all succeed, in some order.

        Raises:
            NotFoundError: the version does not exist.
            InputError: the channel is signed, and there is no signer.
            UntrustedError: there is a signer, and neither its key nor one of ``keys`` signed the version.
            ConflictError: other writers changed the channel at every attempt.
        """
        self._check_promotable(model_id)
        for attempt in range(_MAX_ATTEMPTS):
            current, etag = self._read_channel(channel)
            pointer = self._accepted_pointer(channel, current)
            if pointer is not None and pointer.model_id == model_id:
                return pointer
            history = () if pointer is None else (pointer.model_id, *pointer.previous)
            try:
                return self._write_channel(channel, model_id, history[:_MAX_PREVIOUS], pointer, etag)
            except ConflictError:
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
        raise ConflictError("other writers keep changing it", where=f"channel {channel}", hint="try again")

    def rollback(self, channel: str) -> Pointer:
        """Point ``channel`` to its previous version.

        Raises:
            InputError: there is no previous version, or the channel is signed and there is no signer.
            UntrustedError: there is a signer, and no accepted key signed the previous version or the channel.
            ConflictError: the channel changed meanwhile, so that the previous version may be another one now.
        """
        current, etag = self._read_channel(channel)
        pointer = self._accepted_pointer(channel, current)
        if current is not None and pointer is None:
            raise UntrustedError(
                "is not signed by an accepted key, so its history cannot be trusted",
                where=f"channel {channel}",
                hint="promote a version instead: transferlite models promote",
            )
        if pointer is None or not pointer.previous:
            raise InputError("has no previous model to go back to", where=f"channel {channel}")
        self._check_promotable(pointer.previous[0])
        return self._write_channel(channel, pointer.previous[0], pointer.previous[1:], pointer, etag)

    def resolve(self, channel: str, model_id: str | None = None) -> str:
        """Return ``model_id`` if given, otherwise the version that ``channel`` points to."""
        return model_id or self.channel(channel).model_id

    def _read_channel(self, name: str) -> tuple[Pointer | None, str | None]:
        """Read a pointer, unchecked, and its ETag; two Nones if the channel does not exist."""
        key = _channel_key(name)
        try:
            return self._parse_pointer(key, self.store.get(key))
        except MissingStoreError:
            raise
        except NotFoundError:
            return None, None

    def _parse_pointer(self, key: str, blob: Blob) -> tuple[Pointer, str]:
        where = str(self.store.path_of(key)) if isinstance(self.store, FolderStore) else f"{self.store.uri}/{key}"
        try:
            return Pointer.from_json(blob.data, where), blob.etag
        except BundleError as error:
            hint = "delete it, then promote a version again (in a folder for a device: pull again)"
            raise BundleError(error.message, where=error.where, hint=hint) from None

    def _accepted_pointer(self, name: str, pointer: Pointer | None) -> Pointer | None:
        where = f"{self.store.uri}/{_channel_key(name)}"
        return accept_pointer(pointer, name, self._accepted_keys, self.signer, where)

    def _write_channel(
        self, name: str, model_id: str, previous: tuple[str, ...], current: Pointer | None, etag: str | None
    ) -> Pointer:
        pointer = next_pointer(name, model_id, previous, current, self.signer, utc_now())
        self._put_idempotently(_channel_key(name), pointer.to_json(), if_absent=etag is None, if_match=etag)
        return pointer


def _channel_key(name: str) -> str:
    return f"channels/{check_channel(name)}.json"


def check_channel(name: str) -> str:
    """Return a channel's name. Raises InputError if it is not valid."""
    if not _CHANNEL_NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a channel name", hint="use lower-case letters, digits, - and _")
    return name
