"""Versions and channels in a store: immutable bundles, and small pointers that are changed by compare-and-swap.

::

    models/<model_id>/...            a bundle; its manifest.json is written last, so a version without one is no version
    models/<model_id>/manifest.sig   the manifest's signature, if it has one: written just before the manifest
    channels/<channel>.json          a Pointer: the model id that the channel names, and those it named before; its
                                     signature is inside, for two objects cannot be swapped at once
"""

import datetime
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.ahead import map_ahead
from runtime.bundle import (
    MANIFEST,
    SIGNATURE,
    Manifest,
    check_files,
    check_model_id,
    check_signature,
    is_model_id,
)
from runtime.download import fetch_bundle
from runtime.errors import (
    AccessDeniedError,
    BundleError,
    ConflictError,
    InputError,
    MissingStoreError,
    NotFoundError,
    UntrustedError,
)
from runtime.folder import FolderStore
from runtime.media import open_registry_store
from runtime.pointers import Pointer, check_newer, check_pointer, next_pointer, trusted
from runtime.signing import PublicKeys, Signer, open_signer
from runtime.store import Blob, Store

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEPT_PREVIOUS = 20
_ATTEMPTS = 20


def new_model_id(now: datetime.datetime) -> str:
    """An id that sorts by time and that no other job will choose: ``20260131-235959-3f9a1c07``."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def utc_now() -> datetime.datetime:
    """Now, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Registry:
    """The models of one store.

    Attributes:
        store: where they are.
        keys: with them nothing is read that one of them did not sign; without, signatures are not looked at.
        signer: signs what is published, promoted or rolled back.
    """

    store: Store
    keys: PublicKeys | None = None
    signer: Signer | None = None

    @classmethod
    def open(cls, uri: str, public_key: str | None = None, signing_key: str | None = None) -> "Registry":
        """The registry at an ``s3://`` URI, a local folder or a shared ``https://`` address. Nothing is read yet.

        ``public_key`` (by default ``$TRANSFERLITE_PUBLIC_KEY``) is as in :meth:`PublicKeys.read`, ``signing_key`` as
        in :func:`runtime.signing.open_signer`. Raises InputError where they, or the location, are none.
        """
        return cls(open_registry_store(uri), PublicKeys.configured(public_key), open_signer(signing_key))

    @property
    def signed(self) -> str:
        """In words, whether what is written here is signed."""
        return f"signed with key {', '.join(self.signer.public_keys.keys)}" if self.signer else "not signed"

    # -- versions ------------------------------------------------------------------------------------------------

    def publish(self, bundle: Path, manifest: Manifest) -> None:
        """Write a new version: all its files, the manifest's signature if there is a signer, then the manifest.

        Raises:
            ConflictError: a version of that id exists.
        """
        prefix = f"models/{manifest.model_id}"
        check_files(bundle, manifest.files)
        if any(self.store.entries(f"{prefix}/{MANIFEST}")):
            raise ConflictError("exists already", where=f"{self.store.uri}/{prefix}")

        def upload(path: str) -> None:
            self.store.upload(f"{prefix}/{path}", bundle / path)

        for _ in map_ahead(upload, manifest.files, workers=8):
            pass
        data = manifest.to_json()
        if self.signer:
            self.store.put(f"{prefix}/{SIGNATURE}", self.signer.sign(data).to_json())
        self._put_surely(f"{prefix}/{MANIFEST}", data, if_absent=True)

    def manifest(self, model_id: str) -> Manifest:
        """The manifest of one version.

        Raises:
            NotFoundError: there is no such version.
            UntrustedError: none of ``keys`` signed it.
            BundleError: it is damaged, or another version's.
        """
        return self._parsed(model_id, self._manifest_data(model_id), self.keys)

    def sign(self, model_id: str) -> None:
        """Sign a version that is there already: one that was not signed, or by a key that is given up.

        Its files are not looked at: they are held to the manifest wherever they are loaded.
        """
        assert self.signer is not None
        data = self._manifest_data(model_id)
        self._parsed(model_id, data, None)
        self.store.put(f"models/{model_id}/{SIGNATURE}", self.signer.sign(data).to_json())

    def _manifest_data(self, model_id: str) -> bytes:
        key = f"models/{check_model_id(model_id)}/{MANIFEST}"
        try:
            return self.store.get(key).data
        except MissingStoreError:
            raise
        except NotFoundError as error:
            hint = error.hint or "transferlite models list shows them"
            raise NotFoundError(f"there is no model {model_id}", where=self.store.uri, hint=hint) from None

    def _parsed(self, model_id: str, data: bytes, keys: PublicKeys | None) -> Manifest:
        where = f"{self.store.uri}/models/{model_id}/{MANIFEST}"
        if keys is not None:
            check_signature(keys, data, self.signature(model_id), where)
        manifest = Manifest.from_json(data, where)
        if manifest.model_id != model_id:
            raise BundleError(f"is the manifest of another version, {manifest.model_id}", where=where)
        return manifest

    def signature(self, model_id: str) -> bytes | None:
        """The content of a version's ``manifest.sig``, unchecked; None where it is not signed."""
        try:
            return self.store.get(f"models/{check_model_id(model_id)}/{SIGNATURE}").data
        except MissingStoreError:
            raise
        except NotFoundError:
            return None
        except AccessDeniedError:
            if self.keys is None:
                return None  # so S3 calls what is missing where listing is not allowed
            raise

    def versions(self, damaged: Callable[[BundleError], None] | None = None) -> Iterator[Manifest]:
        """Every complete version, oldest first. One that cannot be read is passed to ``damaged``, or raised if None."""

        def read(model_id: str) -> Manifest | None:
            try:
                return self.manifest(model_id)
            except BundleError as error:
                if damaged is None:
                    raise
                damaged(error)
                return None
            except MissingStoreError:
                raise
            except NotFoundError:
                return None  # still being written, or its job died before the manifest

        found = map_ahead(read, filter(is_model_id, self.store.children("models/")))
        yield from (manifest for manifest in found if manifest is not None)

    # -- channels ------------------------------------------------------------------------------------------------

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

    def begins_anew(self, channel: str) -> bool:
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

    # -- copies --------------------------------------------------------------------------------------------------

    def pull(
        self,
        model_id: str,
        folder: Path,
        variants: Iterable[str] | None = None,
        spares: Iterable[Path] = (),
        with_signature: bool = True,
    ) -> Path:
        """Copy a version's serving files to ``folder/<model_id>``, verified; what is there already is not fetched.

        ``variants`` defaults to all TFLite files. Files that the bundles ``spares`` have too are taken from there. A
        download that broke off goes on where it was. The signature, if there is one, comes along for who checks it.
        Returns the bundle's folder.

        Raises:
            NotFoundError: no such version or variant.
            BundleError: what arrived does not have the manifest's sha256.
        """
        data = self._manifest_data(model_id)
        manifest = self._parsed(model_id, data, self.keys)
        signature = self.signature(model_id) if with_signature else None
        files = manifest.files_of(variants or manifest.tflite_variants())
        documents = {MANIFEST: data} if signature is None else {SIGNATURE: signature, MANIFEST: data}
        fetch_bundle(self.store, f"models/{model_id}", documents, files, folder / model_id, spares)
        return folder / model_id

    def local_bundle(self, model_id: str, cache: Path, variants: Iterable[str]) -> Path:
        """A folder with the bundle: the registry's own where it is a local folder, otherwise a pulled copy."""
        if isinstance(self.store, FolderStore):
            self.manifest(model_id)
            return self.store.path_of(f"models/{model_id}/{MANIFEST}").parent
        return self.pull(model_id, cache, variants, with_signature=self.keys is not None)

    # ------------------------------------------------------------------------------------------------------------

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

    @property
    def _accepted(self) -> PublicKeys | None:
        """The keys that may have signed what a change goes on from; None where nothing has to be signed."""
        return self.keys if self.signer is None else self.signer.public_keys | (self.keys or PublicKeys({}))

    def _promotable(self, model_id: str) -> None:
        """Raises unless the version is there, readable and, for a signed channel, signed."""
        try:
            self._parsed(model_id, self._manifest_data(model_id), self._accepted)
        except UntrustedError as error:
            hint = "transferlite models sign vouches for it"
            raise UntrustedError(error.message, where=error.where, hint=hint) from None

    def _trusted(self, name: str, pointer: Pointer | None) -> Pointer | None:
        where = f"{self.store.uri}/{_channel_key(name)}"
        return trusted(pointer, name, self._accepted, self.signer, where)

    def _write_channel(
        self, name: str, model_id: str, previous: tuple[str, ...], old: Pointer | None, etag: str | None
    ) -> Pointer:
        pointer = next_pointer(name, model_id, previous, old, self.signer, utc_now())
        self._put_surely(_channel_key(name), pointer.to_json(), if_absent=etag is None, if_match=etag)
        return pointer

    def _put_surely(self, key: str, data: bytes, if_absent: bool = False, if_match: str | None = None) -> None:
        """A conditional write. One whose answer was lost is sent again by the client, and then meets its own result.

        So does one that meets another writer's, byte for byte: what both wanted is so.
        """
        try:
            self.store.put(key, data, if_absent=if_absent, if_match=if_match)
        except ConflictError:
            try:
                written = self.store.get(key).data
            except NotFoundError:
                written = b""
            if written != data:
                raise


def _channel_key(name: str) -> str:
    return f"channels/{check_channel(name)}.json"


def check_channel(name: str) -> str:
    """The channel's name itself. Raises InputError if it cannot be one."""
    if not _CHANNEL.fullmatch(name):
        raise InputError(f"{name!r} is not a channel name", hint="use lower-case letters, digits, - and _")
    return name


def cache_folder(registry_uri: str) -> Path:
    """Where copies of a remote registry's models are kept: below ``$TRANSFERLITE_CACHE`` or ``~/.cache``."""
    base = os.environ.get("TRANSFERLITE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    safe = re.sub(r"[^A-Za-z0-9]+", "-", registry_uri).strip("-")
    return Path(base) / "transferlite" / safe
