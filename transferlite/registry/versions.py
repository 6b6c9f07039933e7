"""``Versions``: publish, sign, list and read the immutable model versions of a registry."""

import datetime
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from transferlite.storage.folder import FolderStore
from transferlite.storage.prefetch import prefetch_map
from transferlite.storage.store import Store
from transferlite.trust.keys import PublicKeys, Signer
from transferlite.trust.model_signature import sign_files


def new_model_id(now: datetime.datetime) -> str:
    """Generate a unique model id that sorts by time: ``20260131-235959-3f9a1c07``."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def utc_now() -> datetime.datetime:
    """Return the current UTC time to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Versions:
    """Model versions of a store.

    Attributes:
        store: holds the versions.
        keys: accepted public keys; what none of them signed is not read. None: signatures are not checked.
        signer: signs what is published; None publishes unsigned.
    """

    store: Store
    keys: PublicKeys | None = None
    signer: Signer | None = None

    def check_exists(self) -> None:
        """Raise NotFoundError if the registry is a local folder that does not exist; remote stores are not asked."""
        if isinstance(self.store, FolderStore) and not self.store.root.is_dir():
            hint = "correct the path, mount its disk, or train a first model"
            raise NotFoundError("there is no such registry", where=self.store.uri, hint=hint)

    @property
    def signed(self) -> str:
        """Text for logs: whether and with which key this registry signs what it writes."""
        return f"signed with key {self.signer.public_keys}" if self.signer else "not signed"

    def publish(self, bundle: Path, manifest: Manifest) -> None:
        """Publish a version: upload its files, then the manifest's signature (if there is a signer), then the manifest.

        Raises:
            ConflictError: a version with this id exists.
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
            self._write_signature(manifest, data, self.signer)
        self._put_idempotently(f"{prefix}/{MANIFEST}", data, if_absent=True)

    def manifest(self, model_id: str) -> Manifest:
        """Read the manifest of a version.

        Raises:
            NotFoundError: the version does not exist.
            UntrustedError: none of ``keys`` signed the manifest.
            BundleError: the manifest is damaged or belongs to another version.
        """
        return self._parse_manifest(model_id, self._manifest_bytes(model_id), self.keys)

    def manifest_document(self, model_id: str) -> dict[str, Any]:
        """Return a version's manifest as JSON data, with fields of newer releases. Raises as :meth:`manifest`."""
        data = self._manifest_bytes(model_id)
        self._parse_manifest(model_id, data, self.keys)
        document: dict[str, Any] = json.loads(data)
        return document

    def sign(self, model_id: str) -> None:
        """Sign an existing version that is unsigned or signed with a retired key.

        Its files are not read: every reader checks them against the manifest.
        """
        assert self.signer is not None
        data = self._manifest_bytes(model_id)
        self._write_signature(self._parse_manifest(model_id, data, None), data, self.signer)

    def _write_signature(self, manifest: Manifest, data: bytes, signer: Signer) -> None:
        """Sign the version's files and its manifest, whose content is ``data``."""
        digests = {path: info.sha256 for path, info in manifest.files.items()}
        digests[MANIFEST] = hashlib.sha256(data).hexdigest()
        content = sign_files(manifest.model_id, digests, SIGNATURE, signer)
        self.store.put(f"models/{manifest.model_id}/{SIGNATURE}", content)

    def _manifest_bytes(self, model_id: str) -> bytes:
        key = f"models/{check_model_id(model_id)}/{MANIFEST}"
        try:
            return self.store.get(key).data
        except MissingStoreError:
            raise
        except NotFoundError as error:
            self.check_exists()
            hint = error.hint or "list the models with: transferlite models list"
            raise NotFoundError(f"there is no model {model_id}", where=self.store.uri, hint=hint) from None

    def _parse_manifest(self, model_id: str, data: bytes, keys: PublicKeys | None) -> Manifest:
        """Check the signature if ``keys`` are given, then parse the manifest."""
        where = f"{self.store.uri}/models/{model_id}/{MANIFEST}"
        if keys is not None:
            check_signature(keys, data, self.signature(model_id), where)
        manifest = Manifest.from_json(data, where)
        if manifest.model_id != model_id:
            raise BundleError(f"is the manifest of another version, {manifest.model_id}", where=where)
        return manifest

    def signature(self, model_id: str) -> bytes | None:
        """Read a version's ``model.sig``, unchecked; None if the version is not signed."""
        try:
            return self.store.get(f"models/{check_model_id(model_id)}/{SIGNATURE}").data
        except MissingStoreError:
            raise
        except NotFoundError:
            return None
        except AccessDeniedError:
            if self.keys is None:
                return None  # without ListBucket, S3 answers 403 for a missing object
            raise

    def versions(self, damaged: Callable[[BundleError], None] | None = None) -> Iterator[Manifest]:
        """Yield every complete version's manifest, oldest first.

        The error of an unreadable version is passed to ``damaged``, or raised if ``damaged`` is None.
        """

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
                return None  # still being written, or its job died before it wrote the manifest

        manifests = prefetch_map(read, filter(is_model_id, self.store.children("models/")))
        yield from (manifest for manifest in manifests if manifest is not None)

    @property
    def _accepted_keys(self) -> PublicKeys | None:
        """Keys that must have signed a version to promote or a pointer to keep; None if nothing has to be signed."""
        return self.keys if self.signer is None else self.signer.public_keys | (self.keys or PublicKeys({}))

    def _check_promotable(self, model_id: str) -> None:
        """Raise unless the version exists, is readable and, for a signed channel, is signed."""
        try:
            self._parse_manifest(model_id, self._manifest_bytes(model_id), self._accepted_keys)
        except UntrustedError as error:
            hint = f"sign it first: transferlite models sign {model_id}"
            raise UntrustedError(error.message, where=error.where, hint=hint) from None

    def _put_idempotently(self, key: str, data: bytes, if_absent: bool = False, if_match: str | None = None) -> None:
        """Write conditionally; a conflict with identical content counts as success.

        The client repeats a write whose response was lost, and the repetition then conflicts with its own first write.
        """
        try:
            self.store.put(key, data, if_absent=if_absent, if_match=if_match)
        except ConflictError:
            try:
                stored = self.store.get(key).data
            except NotFoundError:
                stored = b""
            if stored != data:
                raise
