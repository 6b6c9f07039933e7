"""Crashes between any two store operations of a publication, promotion or pull."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.transferlite.bundles import FILES, write_bundle
from tests.transferlite.faults import CrashError, MortalStore
from tests.transferlite.registry.conftest import SERVING_FILES, Publish, file_names
from transferlite.registry.local_bundle import check_files
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore, Store


def crashes_at(step: int, after: bool, store: Store, work: Callable[[Registry], object]) -> bool:
    """Return whether ``work`` reached operation number ``step``, at which its process crashes."""
    try:
        work(Registry(MortalStore(store, step, after)))
    except CrashError:
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before the operation", "after the operation"])
@pytest.mark.parametrize("old", [[], ["one"]], ids=["the first model", "a second model"])
def test_a_crash_at_any_operation_leaves_the_old_or_the_new_model(
    tmp_path: Path, publish: Publish, after: bool, old: list[str]
) -> None:
    new = write_bundle(tmp_path / "new", "two")

    def job(registry: Registry) -> None:
        registry.publish(tmp_path / "new", new)
        registry.promote("two", "production")

    for step in itertools.count(1):
        registry = Registry(MemoryStore())
        for model_id in old:
            publish(registry, model_id)
            registry.promote(model_id, "production")
        crashed = crashes_at(step, after, registry.store, job)
        current = [pointer.model_id for pointer in registry.channels().values()]
        listed = [manifest.model_id for manifest in registry.versions()]
        assert current in ([old, ["two"]] if crashed else [["two"]])
        assert listed in [old, [*old, "two"]]
        assert set(current) <= set(listed)
        for manifest in registry.versions():
            variants = list(manifest.variants)
            check_files(registry.pull(manifest.model_id, tmp_path, variants), manifest.serving_files(variants))
        if not crashed:
            break
    assert step > len(FILES) + 3  # more than the files, two reads of the manifest and the pointer


@pytest.mark.parametrize("after", [False, True], ids=["before the operation", "after the operation"])
def test_a_crash_while_pulling_leaves_no_partial_bundle_and_the_next_pull_completes(
    tmp_path: Path, publish: Publish, after: bool
) -> None:
    store = MemoryStore()
    manifest = publish(Registry(store), "one")
    for step in itertools.count(1):
        bundle = tmp_path / str(step) / "one"
        if not crashes_at(step, after, store, partial(Registry.pull, model_id="one", folder=bundle.parent)):
            break
        assert not (bundle / MANIFEST).exists()
        assert file_names(Registry(store).pull("one", bundle.parent)) == SERVING_FILES
    check_files(bundle, manifest.serving_files(["float32", "int8"]))
    assert step == 6  # after the manifest, its signature and three files
