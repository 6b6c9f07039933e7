"""Where a registry's content may lie without being one: a card with a pulled folder, or with one bundle alone."""

from pathlib import Path

from transferlite.errors import NotFoundError
from transferlite.registry.local_bundle import CURRENT, read_manifest
from transferlite.registry.manifest import MANIFEST
from transferlite.storage.folder import FolderStore
from transferlite.storage.locations import open_store
from transferlite.storage.store import Store, join_uri


class PulledFolder(FolderStore):
    """What ``transferlite models pull --dest`` filled, read as a registry of the channel that it followed."""

    def path_of(self, key: str) -> Path:
        """As a registry's key says, without its folders ``channels/`` and ``models/``."""
        if key.startswith("channels/"):
            return super().path_of(CURRENT)
        return super().path_of(key.removeprefix("models/"))


class BundleFolder(FolderStore):
    """One bundle's folder, read as a registry of that version and of no channel."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.model_id = read_manifest(self.root).model_id

    def path_of(self, key: str) -> Path:
        """As a registry's key says, without the version's folder. Raises NotFoundError for all else."""
        prefix = f"models/{self.model_id}/"
        if not key.startswith(prefix):
            raise NotFoundError("does not exist", where=join_uri(self.uri, key))
        return super().path_of(key.removeprefix(prefix))


def open_registry_store(uri: str) -> Store:
    """The store of the registry at ``uri``, in whichever form it is there. Nothing of a remote one is read yet.

    Raises as :func:`open_store`, and BundleError where a folder is a bundle with a damaged manifest.
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
