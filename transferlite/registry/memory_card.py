"""Registry stores in other layouts: a memory card with a pulled folder or a single bundle, or an HTTPS share."""

from pathlib import Path

from transferlite.errors import NotFoundError
from transferlite.registry.local_bundle import CURRENT, read_manifest
from transferlite.registry.manifest import MANIFEST
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.store import Store, join_uri


class PulledFolder(FolderStore):
    """A folder filled by ``transferlite models pull --dest``, read as a registry with the channel that was pulled."""

    def path_of(self, key: str) -> Path:
        """Map a registry key to the folder's layout, which has no ``channels/`` and ``models/``."""
        if key.startswith("channels/"):
            return super().path_of(CURRENT)
        return super().path_of(key.removeprefix("models/"))


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
        BundleError: the folder is a bundle with a damaged manifest; or as in :func:`open_store`.
    """
    if uri.startswith(("https://", "http://")):
        from transferlite.storage.https import SharedStore

        return SharedStore(uri)
    store = open_store(uri)
    if not isinstance(store, FolderStore) or (store.root / "models").is_dir():
        return store
    if (store.root / CURRENT).is_file():
        return PulledFolder(store.root)
    if (store.root / MANIFEST).is_file():
        return BundleFolder(store.root)
    return store
