"""Registry stores in other layouts: a memory card with a pulled folder or a single bundle, or an HTTPS share."""

from pathlib import Path

from transferlite.errors import BundleError, InputError, NotFoundError
from transferlite.registry.local_bundle import CURRENT, read_manifest
from transferlite.registry.manifest import MANIFEST
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.store import Blob, Store, join_uri


class PulledFolder(FolderStore):
    """A folder filled by ``transferlite models pull --dest``, read as a registry with the channel that was pulled."""

    def path_of(self, key: str) -> Path:
        """Map a registry key to the folder's layout, which has no ``channels/`` and ``models/``."""
        if key.startswith("channels/"):
            return super().path_of(CURRENT)
        return super().path_of(key.removeprefix("models/"))

    def get(self, key: str, max_bytes: int | None = None) -> Blob:
        """Read an object. Raises NotFoundError for the pointer of a channel other than the one that was pulled."""
        blob = super().get(key, max_bytes)
        if key.startswith("channels/") and (held := self.channel) not in {None, key[9:].removesuffix(".json")}:
            raise NotFoundError("does not exist", where=join_uri(self.uri, key), hint=f"use --channel {held}")
        return blob

    @property
    def channel(self) -> str | None:
        """Name of the channel that was pulled; None if the pointer does not say it or cannot be read."""
        from transferlite.registry.channel_pointer import Pointer

        try:
            return Pointer.from_json((self.root / CURRENT).read_bytes()).channel or None
        except (OSError, BundleError):
            return None


class BundleFolder(FolderStore):
    """A bundle's folder, read as a registry with that version and no channels."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.model_id = read_manifest(self.root).model_id

    def path_of(self, key: str) -> Path:
        """Map a registry key of the version to its file. Raises NotFoundError for any other key."""
        prefix = f"models/{self.model_id}/"
        if not key.startswith(prefix):
            raise NotFoundError("does not exist", where=join_uri(self.uri, key))
        return super().path_of(key.removeprefix(prefix))


def open_registry_store(uri: str) -> Store:
    """Open the store of a registry, pulled folder, bundle or share; reads nothing from a remote store.

    Raises:
        InputError: the location is a file.
        BundleError: the folder is a bundle with a damaged manifest; or as in :func:`open_store`.
    """
    if uri.startswith(("https://", "http://")):
        from transferlite.storage.https import SharedStore

        return SharedStore(uri)
    store = open_store(uri)
    if not isinstance(store, FolderStore) or (store.root / "models").is_dir():
        return store
    if store.root.is_file():
        raise _file_error(store.root)
    if (store.root / CURRENT).is_file():
        return PulledFolder(store.root)
    if (store.root / MANIFEST).is_file():
        return BundleFolder(store.root)
    return store


def _file_error(path: Path) -> InputError:
    """Return the error for a file where a registry is needed."""
    with path.open("rb") as file:
        is_share = b'"objects"' in file.read(4096)
    if is_share:
        hint = "put it on a web server or in S3, and give its https:// address"
        return InputError("is a share file, which is read over https only", where=str(path), hint=hint)
    hint = "use predict --model" if path.suffix.lower() == ".tflite" else "give the registry's folder"
    return InputError("is a file, not a registry", where=str(path), hint=hint)
