"""Model versions in a store: each an immutable bundle, complete once its manifest.json is there."""

import datetime
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transferlite.errors import (
    AccessDeniedError,
    BundleError,
    ConflictError,
    MissingStoreError,
    NotFoundError,
    UntrustedError,
)
from transferlite.registry.local_bundle import check_files, check_signature
from transferlite.registry.manifest import MANIFEST, SIGNATURE, Manifest, check_model_id, is_model_id
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store
from transferlite.trust.keys import PublicKeys, Signer


def new_model_id(now: datetime.datetime) -> str:
    """An id that sorts by time and that no other job will choose: ``20260131-235959-3f9a1c07``."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def utc_now() -> datetime.datetime:
    """Now, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Versions:
    """The model versions of one store.

    Attributes:
        store: where they are.
        keys: public keys; with them, nothing is read that none of them signed. None: signatures are not checked.
        signer: signs what is published; None publishes unsigned.
    """

    store: Store
    keys: PublicKeys | None = None
    signer: Signer | None = None

    @property
    def signed(self) -> str:
        """Text for logs: whether what is written here is signed, and with which key."""
        return f"signed with key {', '.join(self.signer.public_keys.keys)}" if self.signer else "not signed"

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

        for _ in prefetch_map(upload, manifest.files, workers=8):
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

        found = prefetch_map(read, filter(is_model_id, self.store.children("models/")))
        yield from (manifest for manifest in found if manifest is not None)

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
