"""Versions and channels in a store: immutable bundles, and small pointers that are changed by compare-and-swap.

::

    models/<model_id>/...            a bundle; its manifest.json is written last, so a version without one is no version
    channels/<channel>.json          a Pointer: the model id that the channel names, and those it named before
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
from runtime.bundle import CURRENT, MANIFEST, Manifest, Pointer, check_files, check_model_id, is_model_id, sha256_of
from runtime.errors import BundleError, ConflictError, InputError, MissingStoreError, NotFoundError
from runtime.folder import FolderStore, explained
from runtime.locations import open_store
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
    """The models of one store."""

    store: Store

    @classmethod
    def open(cls, uri: str) -> "Registry":
        """The registry at an ``s3://`` URI or a local folder. Nothing is read yet."""
        return cls(open_store(uri))

    # -- versions ------------------------------------------------------------------------------------------------

    def publish(self, bundle: Path, manifest: Manifest) -> None:
        """Write a new version: all its files, then its manifest.

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
        self._put_surely(f"{prefix}/{MANIFEST}", manifest.to_json(), if_absent=True)

    def manifest(self, model_id: str) -> Manifest:
        """The manifest of one version. Raises NotFoundError."""
        key = f"models/{check_model_id(model_id)}/{MANIFEST}"
        try:
            return Manifest.from_json(self.store.get(key).data, f"{self.store.uri}/{key}")
        except MissingStoreError:
            raise
        except NotFoundError:
            raise NotFoundError(
                f"there is no model {model_id}", where=self.store.uri, hint="transferlite models list shows them"
            ) from None

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
        """What a channel names. Raises NotFoundError."""
        return self.followed_channel(name)[0]

    def followed_channel(self, name: str, known: tuple[Pointer, str] | None = None) -> tuple[Pointer, str]:
        """What a channel names, and the ETag of its pointer; ``known`` itself while that has not changed.

        Raises:
            NotFoundError: there is no such channel.
        """
        key = _channel_key(name)
        try:
            if known is None:
                return self._pointer(key, self.store.get(key))
            changed = self.store.get_changed(key, known[1])
            return known if changed is None else self._pointer(key, changed)
        except MissingStoreError:
            raise
        except NotFoundError:
            raise NotFoundError(
                f"there is no channel {name!r}", where=self.store.uri, hint="train a model or promote one to it first"
            ) from None

    def promote(self, model_id: str, channel: str) -> Pointer:
        """Let ``channel`` name a version from now on. Two promotions at once both end; one of them last.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: other writers changed the channel all the time.
        """
        self.manifest(model_id)
        for attempt in range(_ATTEMPTS):
            pointer, etag = self._read_channel(channel)
            if pointer is not None and pointer.model_id == model_id:
                return pointer
            history = () if pointer is None else (pointer.model_id, *pointer.previous)
            try:
                return self._write_channel(channel, model_id, history[:_KEPT_PREVIOUS], etag)
            except ConflictError:
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
        raise ConflictError("other writers keep changing it", where=f"channel {channel}", hint="try again")

    def rollback(self, channel: str) -> Pointer:
        """Let ``channel`` name what it named before.

        Raises:
            InputError: it never named anything else.
            ConflictError: the channel changed at the same moment, so that going back might be wrong.
        """
        pointer, etag = self._read_channel(channel)
        if pointer is None or not pointer.previous:
            raise InputError("has no previous model to go back to", where=f"channel {channel}")
        self.manifest(pointer.previous[0])
        return self._write_channel(channel, pointer.previous[0], pointer.previous[1:], etag)

    def resolve(self, channel: str, model_id: str | None = None) -> str:
        """The model id asked for: ``model_id`` itself, or what ``channel`` names."""
        return model_id or self.channel(channel).model_id

    # -- copies --------------------------------------------------------------------------------------------------

    def pull(self, model_id: str, folder: Path, variants: Iterable[str] | None = None) -> Path:
        """Copy a version's serving files to ``folder/<model_id>``, verified; what is there already is not fetched.

        ``variants`` defaults to all TFLite files. Returns the bundle's folder.

        Raises:
            NotFoundError: no such version or variant.
            BundleError: what arrived does not have the manifest's sha256.
        """
        manifest = self.manifest(model_id)
        names = list(variants or (name for name, value in manifest.variants.items() if value.path.endswith(".tflite")))
        bundle = folder / model_id
        files = manifest.files_of(names)

        def fetch(name: str) -> None:
            path = bundle / name
            if path.is_file() and sha256_of(path) == files[name].sha256:
                return
            with explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self.store.download(f"models/{model_id}/{name}", path)

        for _ in map_ahead(fetch, files, workers=8):
            pass
        check_files(bundle, files)
        FolderStore(bundle).put(MANIFEST, manifest.to_json())
        return bundle

    def pull_current(self, channel: str, folder: Path, variants: Iterable[str] | None = None) -> Path:
        """Pull what ``channel`` names and make it the one that ``folder`` stands for; older versions stay beside it."""
        pointer = self.channel(channel)
        bundle = self.pull(pointer.model_id, folder, variants)
        FolderStore(folder).put(CURRENT, pointer.to_json())
        return bundle

    def local_bundle(self, model_id: str, cache: Path, variants: Iterable[str]) -> Path:
        """A folder with the bundle: the registry's own where it is a local folder, otherwise a pulled copy."""
        if isinstance(self.store, FolderStore):
            self.manifest(model_id)
            return self.store.root / "models" / model_id
        return self.pull(model_id, cache, variants)

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

    def _write_channel(self, name: str, model_id: str, previous: tuple[str, ...], etag: str | None) -> Pointer:
        pointer = Pointer(model_id, previous, utc_now().isoformat())
        self._put_surely(_channel_key(name), pointer.to_json(), if_absent=etag is None, if_match=etag)
        return pointer

    def _put_surely(self, key: str, data: bytes, if_absent: bool = False, if_match: str | None = None) -> None:
        """A conditional write. One whose answer was lost is sent again by the client, and then meets its own result."""
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
