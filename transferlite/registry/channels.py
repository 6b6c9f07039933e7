"""``Channels``: promote a model version, roll back, and read what a channel points to.

A channel is one small object, replaced by compare-and-swap, so that readers never see half a change.
"""

import datetime
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from transferlite.errors import (
    BundleError,
    ConflictError,
    InputError,
    MissingStoreError,
    NotFoundError,
    ReplacedError,
    UntrustedError,
)
from transferlite.registry.channel_pointer import (
    Pointer,
    accept_pointer,
    check_not_replayed,
    check_pointer,
    next_pointer,
)
from transferlite.registry.versions import Versions
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

    def channels(self, damaged: Callable[[BundleError], None] | None = None) -> dict[str, Pointer]:
        """Read every channel's pointer, by the channel's name.

        The error of an unreadable pointer is passed to ``damaged``, or raised if ``damaged`` is None.
        """
        keys = (entry.key for entry in self.store.entries("channels/"))
        names = (key.removeprefix("channels/").removesuffix(".json") for key in keys if key.endswith(".json"))
        pointers = {}
        for name in filter(_CHANNEL_NAME.fullmatch, names):
            try:
                pointers[name] = self.channel(name)
            except BundleError as error:
                if damaged is None:
                    raise
                damaged(error)
        return pointers

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
            BundleError: the pointer is damaged.
        """
        pointer, _ = self._read_channel(channel)
        return pointer is not None and self._accepted_pointer(channel, pointer) is None

    def promote(
        self,
        model_id: str,
        channel: str,
        valid_for: datetime.timedelta | None = None,
        force: bool = False,
        replaces: str | None = None,
    ) -> Pointer:
        """Point ``channel`` to a version. Concurrent promotions without ``replaces`` all succeed, in some order.

        The version is no longer withdrawn if it was. Nothing is written if the channel points to it already, unless
        its pointer expires or was signed with another key: then it is renewed.

        Args:
            model_id: the version.
            channel: the channel's name.
            valid_for: time until the pointer expires; None for as long as the replaced pointer, zero for no expiry.
            force: replace a damaged pointer, with its history.
            replaces: version that the channel must still point to; empty for a channel without a version, None for any.

        Raises:
            NotFoundError: the version does not exist.
            ReplacedError: the channel points to another version than ``replaces``.
            InputError: the channel is signed, and there is no signer.
            UntrustedError: there is a signer, and neither its key nor one of ``keys`` signed the version.
            BundleError: the channel's pointer is damaged or of a newer schema, and ``force`` is not set.
            ConflictError: other writers changed the channel at every attempt.
        """
        self._check_promotable(model_id)
        for attempt in range(_MAX_ATTEMPTS):
            current, etag = self._read_channel(channel, force)
            pointer = self._accepted_pointer(channel, current)
            if replaces is not None and (found := pointer.model_id if pointer else "") not in {replaces, model_id}:
                raise ReplacedError(f"points to {found} instead of {replaces or 'no version'}", where=channel)
            if pointer is not None and pointer.model_id == model_id:
                if valid_for is None and pointer.expires_at is None and self._is_signed_by_signer(pointer):
                    return pointer
                history = pointer.previous
            else:
                history = () if pointer is None else (pointer.model_id, *pointer.previous)[:_MAX_PREVIOUS]
            withdrawn = tuple(name for name in pointer.withdrawn if name != model_id) if pointer else ()
            following = next_pointer(channel, model_id, pointer, history, withdrawn, _now(), valid_for)
            try:
                return self._write_channel(following, etag)
            except ConflictError:
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
        raise ConflictError("other writers keep changing it", where=f"channel {channel}", hint="try again")

    def rollback(self, channel: str) -> Pointer:
        """Point ``channel`` to its previous version, and withdraw the version that it leaves.

        Raises:
            InputError: there is no previous version, or the channel is signed and there is no signer.
            UntrustedError: there is a signer, and no accepted key signed the previous version or the channel.
            BundleError: the channel's pointer is damaged.
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
        chosen, *earlier = pointer.previous
        self._check_promotable(chosen)
        withdrawn = (pointer.model_id, *(name for name in pointer.withdrawn if name != pointer.model_id))
        return self._write_channel(
            next_pointer(channel, chosen, pointer, tuple(earlier), withdrawn, _now(), None), etag
        )

    def resolve(self, channel: str, model_id: str | None = None) -> str:
        """Return ``model_id`` if given, otherwise the version that ``channel`` points to."""
        return model_id or self.channel(channel).model_id

    def _read_channel(self, name: str, ignore_damage: bool = False) -> tuple[Pointer | None, str | None]:
        """Read a pointer, unchecked, and its ETag; two Nones if the channel does not exist.

        A damaged pointer is None with its ETag if damage is ignored, otherwise BundleError.
        """
        key = _channel_key(name)
        try:
            blob = self.store.get(key)
            return self._parse_pointer(key, blob)
        except MissingStoreError:
            raise
        except NotFoundError:
            return None, None
        except BundleError:
            if not ignore_damage:
                raise
            return None, blob.etag

    def _parse_pointer(self, key: str, blob: Blob) -> tuple[Pointer, str]:
        where = str(self.store.path_of(key)) if isinstance(self.store, FolderStore) else f"{self.store.uri}/{key}"
        try:
            return Pointer.from_json(blob.data, where), blob.etag
        except BundleError as error:
            hint = error.hint or "replace it with: transferlite models promote --force (on a device: pull again)"
            raise BundleError(error.message, where=error.where, hint=hint) from None

    def _accepted_pointer(self, name: str, pointer: Pointer | None) -> Pointer | None:
        where = f"{self.store.uri}/{_channel_key(name)}"
        return accept_pointer(pointer, name, self._accepted_keys, self.signer, where)

    def _is_signed_by_signer(self, pointer: Pointer) -> bool:
        if self.signer is None or pointer.envelope is None:
            return self.signer is None
        return any(signature.key in self.signer.public_keys.keys for signature in pointer.envelope.signatures)

    def _write_channel(self, pointer: Pointer, etag: str | None) -> Pointer:
        signed = pointer.signed(self.signer)
        self._put_idempotently(_channel_key(signed.channel), signed.to_json(), if_absent=etag is None, if_match=etag)
        return signed


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _channel_key(name: str) -> str:
    return f"channels/{check_channel(name)}.json"


def check_channel(name: str) -> str:
    """Return a channel's name. Raises InputError if it is not valid."""
    if not _CHANNEL_NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a channel name", hint="use lower-case letters, digits, - and _")
    return name
