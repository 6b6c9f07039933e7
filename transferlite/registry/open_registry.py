"""``Registry``: open a registry by its URI, and pull versions to local folders.

Layout of the store::

    models/<model_id>/...            the files of a version's bundle
    models/<model_id>/model.sig      signature of all files, if signed; written just before the manifest
    models/<model_id>/manifest.json  written last: a version without it does not exist
    channels/<channel>.json          the channel's pointer: its version and previous versions. Its signature is inside,
                                     because two objects cannot be replaced atomically
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transferlite import environment
from transferlite.inference.variants import AUTO
from transferlite.registry.channels import Channels
from transferlite.registry.download import OnFetch, fetch_bundle
from transferlite.registry.manifest import MANIFEST, SIGNATURE, Manifest, check_model_id
from transferlite.registry.memory_card import open_registry_store
from transferlite.registry.model_cache import cache_in_use
from transferlite.storage.folder import FolderStore
from transferlite.trust.open_keys import configured_public_keys, open_signer


@dataclass(frozen=True)
class Registry(Channels):
    """Published model versions and the channels that point to them."""

    @classmethod
    def open(cls, uri: str, public_key: str | None = None, signing_key: str | None = None) -> "Registry":
        """Open the registry at an ``s3://`` URI, local folder or shared ``https://`` URL; reads nothing remote yet.

        Args:
            uri: the location.
            public_key: key that must have signed what is read, as in
                :func:`~transferlite.trust.open_keys.read_public_keys`; default ``$TRANSFERLITE_PUBLIC_KEY``.
            signing_key: key that signs what is written, as in :func:`~transferlite.trust.open_keys.open_signer`.

        Raises:
            InputError: the location or a key is invalid.
        """
        return cls(open_registry_store(uri), configured_public_keys(public_key), open_signer(signing_key))

    def pull(
        self,
        model_id: str,
        folder: Path,
        variants: Iterable[str] | None = None,
        reuse_from: Iterable[Path] = (),
        with_signature: bool = True,
        on_fetch: OnFetch | None = None,
    ) -> Path:
        """Copy a version's serving files to ``folder/<model_id>``, verify them, and return that bundle's folder.

        Files that are there already are not fetched again, and an interrupted download resumes.

        Args:
            model_id: the version.
            folder: where to create the bundle's folder.
            variants: variants to copy; all TFLite variants if None.
            reuse_from: folders of other bundles, whose identical files are linked or copied.
            with_signature: also copy the signature, if there is one.
            on_fetch: receives each fetched file, as in :func:`~transferlite.registry.download.fetch_files`.

        Raises:
            NotFoundError: the version or a variant does not exist.
            UntrustedError: none of ``keys`` signed the version.
            BundleError: a file does not have the manifest's sha256.
        """
        data = self._manifest_bytes(model_id)
        manifest = self._parse_manifest(model_id, data, self.keys)
        signature = self.signature(model_id) if with_signature else None
        files = manifest.serving_files(self._offered(manifest, variants or manifest.tflite_variants()))
        documents = {MANIFEST: data} if signature is None else {SIGNATURE: signature, MANIFEST: data}
        options = {} if on_fetch is None else {"on_fetch": on_fetch}
        fetch_bundle(self.store, f"models/{model_id}", documents, files, folder / model_id, reuse_from, **options)
        return folder / model_id

    def _offered(self, manifest: Manifest, variants: Iterable[str]) -> list[str]:
        """Replace ``auto`` by the manifest's choice or, if a share lacks that file, by the first one that it has."""
        if not self.store.uri.startswith(("https://", "http://")):  # not a share
            return list(variants)
        prefix = f"models/{manifest.model_id}/"
        shared = {entry.key.removeprefix(prefix) for entry in self.store.entries(prefix)}
        names = (manifest.default_variant, *manifest.tflite_variants())
        held = [name for name in names if name in manifest.variants and manifest.variant(name).path in shared]
        return [held[0] if name == AUTO and held else name for name in variants]

    @contextmanager
    def local_bundle(self, model_id: str, cache: Path, variants: Iterable[str]) -> Iterator[Path]:
        """Yield a folder with the bundle: that of a local registry, otherwise a copy pulled to ``cache``.

        The copy is safe until the context ends; see :mod:`transferlite.registry.model_cache`.
        """
        if isinstance(self.store, FolderStore):
            self.manifest(model_id)
            yield self.store.path_of(f"models/{model_id}/{MANIFEST}").parent
            return
        with cache_in_use(cache, check_model_id(model_id)):
            yield self.pull(model_id, cache, variants, with_signature=self.keys is not None)


def cache_folder(registry_uri: str) -> Path:
    """Return the folder for copies of a registry's models, below ``$TRANSFERLITE_CACHE`` or ``~/.cache``."""
    root = os.environ.get(environment.CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    safe_name = re.sub(r"[^A-Za-z0-9]+", "-", registry_uri).strip("-")
    return Path(root) / "transferlite" / safe_name
