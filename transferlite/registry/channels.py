"""Channels: small pointers to a version, changed only by compare-and-swap and never half-written."""

import random
import re
import time
from dataclasses import dataclass

from transferlite.errors import (
    ConflictError,
    InputError,
    MissingStoreError,
    NotFoundError,
    UntrustedError,
)
from transferlite.registry.channel_pointer import Pointer, check_newer, check_pointer, next_pointer, trusted_pointer
from transferlite.registry.versions import Versions, utc_now
from transferlite.storage.store import Blob

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEPT_PREVIOUS = 20
_ATTEMPTS = 20


@dataclass(frozen=True)
class Channels(Versions):
    """The channels of one store, and the versions that they point to."""

    def channels(self) -> dict[str, Pointer]:
        """Every channel's pointer, by the channel's name."""
        keys = (entry.key for entry in self.store.entries("channels/"))
        names = (key.removeprefix("channels/").removesuffix(".json") for key in keys if key.endswith(".json"))
        return {name: self.channel(name) for name in names if _CHANNEL.fullmatch(name)}

    def channel(self, name: str) -> Pointer:
        """What a channel names. Raises as :meth:`followed_channel`."""
        return self.followed_channel(name)[0]

    def followed_channel(self, name: str, known: tuple[Pointer, str] | None = None) -> tuple[Pointer, str]:
        """What a channel names, and the ETag of its pointer; ``known`` itself while that has not changed.

        Raises:
            NotFoundError: there is no such channel.
            UntrustedError: none of ``keys`` signed its pointer, it is another channel's, or older than ``known``.
        """
        key = _channel_key(name)
        try:
            changed = self.store.get(key) if known is None else self.store.get_changed(key, known[1])
        except MissingStoreError:
            raise
        except NotFoundError:
            raise NotFoundError(
                f"there is no channel {name!r}", where=self.store.uri, hint="train a model or promote one to it first"
            ) from None
        if changed is None:
            assert known is not None
            return known
        found = self._pointer(key, changed)
        if self.keys is not None:
            check_pointer(found[0], name, self.keys, f"{self.store.uri}/{key}")
            check_newer(found[0], known[0].sequence if known else 0, f"{self.store.uri}/{key}")
        return found

    def loses_history(self, channel: str) -> bool:
        """Whether a promotion would not go on from what the channel names now, for no known key signed that.

        Raises:
            InputError: the channel is signed, and there is no signer, so that a promotion would be refused.
        """
        pointer, _ = self._read_channel(channel)
        return pointer is not None and self._trusted(channel, pointer) is None

    def promote(self, model_id: str, channel: str) -> Pointer:
        """Let ``channel`` name a version from now on. Two promotions at once both end; one of them last.

        Raises:
            NotFoundError: there is no such version.
            InputError: the channel is signed, and there is no signer.
            UntrustedError: there is a signer, and the version is not signed with its key or one of ``keys``.
            ConflictError: other writers changed the channel all the time.
        """
        self._promotable(model_id)
        for attempt in range(_ATTEMPTS):
            found, etag = self._read_channel(channel)
            pointer = self._trusted(channel, found)
            if pointer is not None and pointer.model_id == model_id:
                return pointer
            history = () if pointer is None else (pointer.model_id, *pointer.previous)
            try:
                return self._write_channel(channel, model_id, history[:_KEPT_PREVIOUS], pointer, etag)
            except ConflictError:
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
        raise ConflictError("other writers keep changing it", where=f"channel {channel}", hint="try again")

    def rollback(self, channel: str) -> Pointer:
        """Let ``channel`` name what it named before.

        Raises:
            InputError: it never named anything else; or it is signed, and there is no signer.
            UntrustedError: there is a signer, and the version before, or the channel, is not signed by a known key.
            ConflictError: the channel changed at the same moment, so that going back might be wrong.
        """
        found, etag = self._read_channel(channel)
        pointer = self._trusted(channel, found)
        if found is not None and pointer is None:
            raise UntrustedError(
                "is not signed with this key, so that what it named before is anybody's word",
                where=f"channel {channel}",
                hint="promote the version that you want",
            )
        if pointer is None or not pointer.previous:
            raise InputError("has no previous model to go back to", where=f"channel {channel}")
        self._promotable(pointer.previous[0])
        return self._write_channel(channel, pointer.previous[0], pointer.previous[1:], pointer, etag)

    def resolve(self, channel: str, model_id: str | None = None) -> str:
        """The model id asked for: ``model_id`` itself, or what ``channel`` names."""
        return model_id or self.channel(channel).model_id

    def _read_channel(self, name: str) -> tuple[Pointer | None, str | None]:
        key = _channel_key(name)
        try:
            return self._pointer(key, self.store.get(key))
        except MissingStoreError:
            raise
        except NotFoundError:
            return None, None

    def _pointer(self, key: str, blob: Blob) -> tuple[Pointer, str]:
        return Pointer.from_json(blob.data, f"{self.store.uri}/{key}"), blob.etag

    def _trusted(self, name: str, pointer: Pointer | None) -> Pointer | None:
        where = f"{self.store.uri}/{_channel_key(name)}"
        return trusted_pointer(pointer, name, self._accepted, self.signer, where)

    def _write_channel(
        self, name: str, model_id: str, previous: tuple[str, ...], old: Pointer | None, etag: str | None
    ) -> Pointer:
        pointer = next_pointer(name, model_id, previous, old, self.signer, utc_now())
        self._put_surely(_channel_key(name), pointer.to_json(), if_absent=etag is None, if_match=etag)
        return pointer


def _channel_key(name: str) -> str:
    return f"channels/{check_channel(name)}.json"


def check_channel(name: str) -> str:
    """The channel's name itself. Raises InputError if it cannot be one."""
    if not _CHANNEL.fullmatch(name):
        raise InputError(f"{name!r} is not a channel name", hint="use lower-case letters, digits, - and _")
    return name
