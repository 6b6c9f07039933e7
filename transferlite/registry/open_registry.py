"""Versions and channels in a store: immutable bundles, and small pointers that are changed by compare-and-swap.

::

    models/<model_id>/...            a bundle; its manifest.json is written last, so a version without one is no version
    models/<model_id>/manifest.sig   the manifest's signature, if it has one: written just before the manifest
    channels/<channel>.json          a Pointer: the model id that the channel names, and those it named before; its
                                     signature is inside, for two objects cannot be swapped at once
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transferlite import environment
from transferlite.registry.channels import Channels
from transferlite.registry.download import fetch_bundle
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.memory_card import open_registry_store
from transferlite.storage.folder import FolderStore
from transferlite.trust.open_keys import configured_public_keys, open_signer


@dataclass(frozen=True)
class Registry(Channels):
    """Published models: versions, the channels that point to them, and local copies of both."""

    @classmethod
    def open(cls, uri: str, public_key: str | None = None, signing_key: str | None = None) -> "Registry":
        """The registry at an ``s3://`` URI, a local folder or a shared ``https://`` address. Nothing is read yet.

        ``public_key`` (by default ``$TRANSFERLITE_PUBLIC_KEY``) is as in
        :func:`~transferlite.trust.open_keys.read_public_keys`, ``signing_key`` as
        in :func:`transferlite.trust.open_keys.open_signer`. Raises InputError where they, or the location, are none.
        """
        return cls(open_registry_store(uri), configured_public_keys(public_key), open_signer(signing_key))

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
        files = manifest.serving_files(variants or manifest.tflite_variants())
        documents = {MANIFEST: data} if signature is None else {SIGNATURE: signature, MANIFEST: data}
        fetch_bundle(self.store, f"models/{model_id}", documents, files, folder / model_id, spares)
        return folder / model_id

    def local_bundle(self, model_id: str, cache: Path, variants: Iterable[str]) -> Path:
        """A folder with the bundle: the registry's own where it is a local folder, otherwise a pulled copy."""
        if isinstance(self.store, FolderStore):
            self.manifest(model_id)
            return self.store.path_of(f"models/{model_id}/{MANIFEST}").parent
        return self.pull(model_id, cache, variants, with_signature=self.keys is not None)


def cache_folder(registry_uri: str) -> Path:
    """Where copies of a remote registry's models are kept: below ``$TRANSFERLITE_CACHE`` or ``~/.cache``."""
    base = os.environ.get(environment.CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    safe = re.sub(r"[^A-Za-z0-9]+", "-", registry_uri).strip("-")
    return Path(base) / "transferlite" / safe
