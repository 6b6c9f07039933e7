"""Install a channel's versions into a folder: what is installed, kept, refused and remembered."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.transferlite.bundles import write_bundle
from tests.transferlite.keys import ed25519, owners, signature_of, trusting
from transferlite.edge.choose_version import RefusedError
from transferlite.edge.install import ensure_loadable, install_current
from transferlite.edge.install_state import STATE_FILE, read_state
from transferlite.errors import BundleError, DiskFullError, NotFoundError, TransferLiteError, UntrustedError
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.local_bundle import CURRENT, check_files, find_bundle, read_manifest
from transferlite.registry.manifest import MANIFEST, SIGNATURE
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import MemoryStore, Store


@pytest.fixture
def publish(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Publish versions to a store, signed, and promote each."""

    def work(store: Store, *model_ids: str) -> None:
        for model_id in model_ids:
            folder = tmp_path_factory.mktemp(model_id)
            owners(store).publish(folder, write_bundle(folder, model_id))
            owners(store).promote(model_id, "production")

    return work


Publish = Callable[..., None]


def models(device: Path) -> set[str]:
    return {path.name for path in device.iterdir() if path.is_dir()}


def failing(*model_ids: str) -> Callable[[Path], None]:
    """A load check that fails for these versions."""

    def load_check(bundle: Path) -> None:
        if bundle.name in model_ids:
            raise BundleError(f"{bundle.name} does not load")

    return load_check


# -- installed and kept ----------------------------------------------------------------------------------------------


def test_each_version_is_installed_and_one_previous_is_kept(publish: Publish, tmp_path: Path) -> None:
    store, device = MemoryStore(), tmp_path / "device"
    for number, model_id in enumerate(("a", "b", "c", "d")):
        publish(store, model_id)
        result = install_current(trusting(store), "production", device)
        assert (result.model_id, result.previous) == (model_id, [None, "a", "b", "c"][number])
        assert result.changed
        assert result.bundle == find_bundle(device)
    assert models(device) == {"c", "d"}
    assert not install_current(trusting(store), "production", device).changed


def test_a_rollback_is_installed_without_a_download(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a", "b")
    owners(store).promote("a", "production")
    install_current(trusting(store), "production", tmp_path)
    owners(store).promote("b", "production")
    install_current(trusting(store), "production", tmp_path)
    owners(store).rollback("production")
    for name in ("float32.tflite", "int8.tflite", "labels.txt"):
        store.delete(f"models/a/{name}")
    assert install_current(trusting(store), "production", tmp_path).model_id == "a"
    assert models(tmp_path) == {"a"}  # b was withdrawn


def test_only_changed_files_are_downloaded(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a", "b")
    owners(store).promote("a", "production")
    install_current(trusting(store), "production", tmp_path)
    owners(store).promote("b", "production")
    store.delete("models/b/labels.txt")  # the same labels as before
    bundle = install_current(trusting(store), "production", tmp_path).bundle
    check_files(bundle, read_manifest(bundle).serving_files(["float32", "int8"]))


def test_folders_of_others_are_never_removed(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    (tmp_path / "20260101-pictures").mkdir()
    write_bundle(tmp_path / "mine", "mine")
    for model_id in ("a", "b", "c"):
        publish(store, model_id)
        install_current(trusting(store), "production", tmp_path)
    assert models(tmp_path) == {"20260101-pictures", "mine", "b", "c"}


def test_an_incomplete_version_is_removed_by_the_next_install(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    publish(store, "half")
    store.delete("models/half/int8.tflite")
    with pytest.raises(NotFoundError):
        install_current(trusting(store), "production", tmp_path)
    assert models(tmp_path) == {"a", "half"}
    publish(store, "b")
    install_current(trusting(store), "production", tmp_path)
    assert models(tmp_path) == {"a", "b"}


def test_a_damaged_model_is_repaired_by_the_next_install(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    bundle = install_current(trusting(store), "production", tmp_path).bundle
    for name in ("int8.tflite", MANIFEST, SIGNATURE):
        (bundle / name).write_bytes(b"damaged")
        assert not install_current(trusting(store), "production", tmp_path).changed
        manifest = read_manifest(bundle, ed25519().public_keys)
        check_files(bundle, manifest.serving_files(["float32", "int8"]))


def test_a_changed_manifest_of_the_installed_version_is_refused(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    bundle = install_current(Registry(store), "production", tmp_path).bundle
    manifest = Registry(store).manifest("a")
    store.put("models/a/manifest.json", replace(manifest, labels=("red", "blue")).to_json())
    with pytest.raises(BundleError, match="a version never changes"):
        install_current(Registry(store), "production", tmp_path)
    assert read_manifest(bundle) == manifest


# -- refused ---------------------------------------------------------------------------------------------------------


def test_a_version_that_does_not_load_is_refused_for_good(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path, load_check=failing("b"))
    publish(store, "b")
    with pytest.raises(BundleError, match="b does not load"):
        install_current(trusting(store), "production", tmp_path, load_check=failing("b"), retry_refused=False)
    assert find_bundle(tmp_path).name == "a"
    assert models(tmp_path) == {"a"}
    store.delete("models/b/manifest.json")  # it is not even read again
    with pytest.raises(RefusedError, match=r"b was refused before: b does not load; promote another version"):
        install_current(trusting(store), "production", tmp_path, load_check=failing("b"), retry_refused=False)
    assert find_bundle(tmp_path).name == "a"


def test_a_refused_version_is_tried_again_after_a_promotion_or_on_request(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a", "b")
    with pytest.raises(BundleError, match="b does not load"):
        install_current(trusting(store), "production", tmp_path, load_check=failing("b"), retry_refused=False)
    owners(store).promote("a", "production")
    assert (
        install_current(trusting(store), "production", tmp_path, load_check=failing("b"), retry_refused=False).model_id
        == "a"
    )
    owners(store).promote("b", "production")
    with pytest.raises(BundleError, match="b does not load"):
        install_current(trusting(store), "production", tmp_path, load_check=failing("b"), retry_refused=False)
    assert install_current(trusting(store), "production", tmp_path, load_check=failing()).model_id == "b"


def test_a_version_that_arrives_damaged_is_downloaded_three_times_only(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    store.put("models/a/int8.tflite", b"damaged")
    for _ in range(3):
        with pytest.raises(BundleError, match="does not have the manifest's sha256"):
            install_current(trusting(store), "production", tmp_path, retry_refused=False)
    with pytest.raises(RefusedError, match="does not have the manifest's sha256"):
        install_current(trusting(store), "production", tmp_path, retry_refused=False)


def test_a_version_that_arrives_damaged_is_downloaded_again_with_longer_and_longer_waits(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now, downloads = MemoryStore(), [1e9], list[float]()
    monkeypatch.setattr("time.time", lambda: now[0])
    publish(store, "a")
    good = store.get("models/a/int8.tflite").data
    store.put("models/a/int8.tflite", b"a login page")
    for now[0] in range(10**9, 10**9 + 5 * 86400, 600):
        with pytest.raises(BundleError) as raised:
            install_current(trusting(store), "production", tmp_path, retry_refused=False)
        if not isinstance(raised.value, RefusedError):
            downloads.append((now[0] - 10**9) / 3600)
    assert downloads == pytest.approx(
        [0, 1 / 6, 2 / 6, 8 / 6, 20 / 6, 44 / 6, 92 / 6, 188 / 6, 332 / 6, 476 / 6, 620 / 6]
    )
    assert "it is downloaded again at the first poll after 2001-09-14 " in str(raised.value)
    store.put("models/a/int8.tflite", good)
    now[0] = 0.0  # the clock was lost with the power: do not wait until 2001
    assert install_current(trusting(store), "production", tmp_path, retry_refused=False).model_id == "a"


def test_a_version_that_ends_the_process_three_times_is_refused(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    publish(store, "b")

    def crash(_bundle: Path) -> None:
        raise SystemExit

    for _ in range(3):
        with pytest.raises(SystemExit):
            install_current(trusting(store), "production", tmp_path, load_check=crash, retry_refused=False)
    with pytest.raises(RefusedError, match="the process ended while loading it"):
        install_current(trusting(store), "production", tmp_path, load_check=crash, retry_refused=False)
    assert find_bundle(tmp_path).name == "a"


def test_a_missing_signature_does_not_refuse_the_version(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    signature = store.get("models/a/model.sig").data
    store.delete("models/a/model.sig")
    for _ in range(4):
        with pytest.raises(UntrustedError, match="is not signed"):
            install_current(trusting(store), "production", tmp_path, retry_refused=False)
    store.put("models/a/model.sig", signature)
    assert install_current(trusting(store), "production", tmp_path, retry_refused=False).model_id == "a"


# -- replays ---------------------------------------------------------------------------------------------------------


def test_a_replayed_pointer_is_refused_and_a_rollback_is_not(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    old = store.get("channels/production.json").data
    publish(store, "b")
    newest = store.get("channels/production.json").data
    install_current(trusting(store), "production", tmp_path)
    store.put("channels/production.json", old)
    with pytest.raises(UntrustedError, match=r"channel production: is older .* an old pointer was replayed"):
        install_current(trusting(store), "production", tmp_path)
    assert find_bundle(tmp_path).name == "b"
    store.put("channels/production.json", newest)
    owners(store).rollback("production")
    assert install_current(trusting(store), "production", tmp_path).model_id == "a"
    store.put("channels/production.json", newest)
    with pytest.raises(UntrustedError, match="is older"):
        install_current(trusting(store), "production", tmp_path)


def test_without_keys_every_pointer_is_accepted(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    old = store.get("channels/production.json").data
    publish(store, "b")
    install_current(Registry(store), "production", tmp_path)
    store.put("channels/production.json", old)
    assert install_current(Registry(store), "production", tmp_path).model_id == "a"
    assert read_state(tmp_path, None).sequences == {}


def test_a_fallback_does_not_allow_a_replay(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    old = store.get("channels/production.json").data
    install_current(trusting(store), "production", tmp_path)
    publish(store, "b")
    install_current(trusting(store), "production", tmp_path)
    assert ensure_loadable(tmp_path, failing("b")) == "b"
    store.put("channels/production.json", old)
    with pytest.raises(UntrustedError, match="is older"):
        install_current(trusting(store), "production", tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"sequences": {"production": "x"}}'])
def test_with_a_lost_state_a_replay_is_still_refused(publish: Publish, tmp_path: Path, content: bytes | None) -> None:
    store = MemoryStore()
    publish(store, "a")
    old = store.get("channels/production.json").data
    publish(store, "b")
    install_current(trusting(store), "production", tmp_path)
    (tmp_path / STATE_FILE).unlink()
    if content is not None:
        (tmp_path / STATE_FILE).write_bytes(content)
    newest = store.get("channels/production.json").data
    store.put("channels/production.json", old)
    with pytest.raises(UntrustedError, match="is older"):
        install_current(trusting(store), "production", tmp_path)
    store.put("channels/production.json", newest)
    assert install_current(trusting(store), "production", tmp_path).model_id == "b"


@pytest.mark.parametrize("content", [b"", b"{", b'{"model_id": "../x", "previous": [], "updated_at": ""}'])
def test_a_damaged_current_json_is_replaced(publish: Publish, tmp_path: Path, content: bytes) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    (tmp_path / CURRENT).write_bytes(content)
    assert install_current(trusting(store), "production", tmp_path).model_id == "a"
    assert find_bundle(tmp_path).name == "a"


def test_a_state_of_a_newer_or_older_release_is_read(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a", "b")
    install_current(trusting(store), "production", tmp_path)
    owners(store).rollback("production")
    store.put("models/a/int8.tflite", b"damaged")
    with pytest.raises(BundleError):
        install_current(trusting(store), "production", tmp_path)
    written = json.loads((tmp_path / STATE_FILE).read_bytes())
    expected = read_state(tmp_path, None)
    assert (expected.refused, expected.withdrawn) != (None, {})
    newer = written | {"colour": "blue", "refused": written["refused"] | {"colour": "blue"}}
    (tmp_path / STATE_FILE).write_bytes(json.dumps(newer).encode())
    assert read_state(tmp_path, None) == expected
    older = {name: written[name] for name in ("sequences", "versions", "previous", "refused")}
    (tmp_path / STATE_FILE).write_bytes(json.dumps(older).encode())
    assert read_state(tmp_path, None) == replace(expected, withdrawn={}, newest=None)


# -- withdrawn versions ----------------------------------------------------------------------------------------------


def withdrawn_copies(publish: Publish, store: FolderStore, folder: Path, signed: bool) -> list[Registry]:
    """Publish a and b, copy b in three ways (registry, pulled folder, bundle), then roll back to a."""
    publish(store, "a", "b")
    shutil.copytree(store.root, folder / "registry-copy")
    bundle = install_current(trusting(store), "production", folder / "pulled").bundle
    owners(store).rollback("production")
    keys = ed25519().public_keys if signed else None
    places = (folder / "registry-copy", folder / "pulled", bundle)
    return [replace(Registry.open(str(place)), keys=keys) for place in places]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("lost", [True, False], ids=["state lost", "state kept"])
def test_a_version_that_the_channel_withdrew_is_not_taken_from_a_card(
    publish: Publish, tmp_path: Path, signed: bool, lost: bool
) -> None:
    store, device = FolderStore(tmp_path / "registry"), tmp_path / "device"
    copies = withdrawn_copies(publish, store, tmp_path, signed)
    registry = replace(copies[0], store=store)
    install_current(registry, "production", device)
    if lost:
        (device / STATE_FILE).unlink()
    for card in copies:
        with pytest.raises(UntrustedError, match=r"offers b, which its channel withdrew|an old pointer was replayed"):
            install_current(card, "production", device)
        assert find_bundle(device).name == "a"
    fresh = [install_current(card, "production", tmp_path / f"fresh-{n}").model_id for n, card in enumerate(copies)]
    assert fresh == ["b", "b", "b"]  # these devices did not receive the withdrawal
    owners(store).promote("b", "production")
    assert install_current(registry, "production", device).model_id == "b"
    assert install_current(copies[2], "production", device).model_id == "b"


def test_a_device_remembers_what_was_withdrawn_although_the_other_version_cannot_be_pulled(
    publish: Publish, tmp_path: Path
) -> None:
    store, device = FolderStore(tmp_path / "registry"), tmp_path / "device"
    *_, bundle = withdrawn_copies(publish, store, tmp_path, signed=True)
    store.delete("models/a/int8.tflite")
    with pytest.raises(NotFoundError):
        install_current(trusting(store), "production", device)
    with pytest.raises(UntrustedError, match="offers b, which its channel withdrew"):
        install_current(bundle, "production", device)


def test_a_withdrawn_version_stays_withdrawn_when_the_channels_list_is_lost(publish: Publish, tmp_path: Path) -> None:
    store, device = FolderStore(tmp_path / "registry"), tmp_path / "device"
    *_, bundle = withdrawn_copies(publish, store, tmp_path, signed=True)
    install_current(trusting(store), "production", device)
    store.put("channels/production.json", b"damaged")
    owners(store).promote("a", "production", force=True)
    assert install_current(trusting(store), "production", device).model_id == "a"
    with pytest.raises(UntrustedError, match="offers b, which its channel withdrew"):
        install_current(bundle, "production", device)


def test_a_device_does_not_fall_back_to_a_withdrawn_version(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    for model_id in ("a", "b", "c"):
        publish(store, model_id)
        install_current(trusting(store), "production", tmp_path)
    for _ in range(2):
        owners(store).rollback("production")
    store.delete("models/a/int8.tflite")
    with pytest.raises(NotFoundError):  # c is installed, b is the previous one, and both were withdrawn
        install_current(trusting(store), "production", tmp_path)
    with pytest.raises(BundleError, match="c does not load"):
        ensure_loadable(tmp_path, failing("c"))


# -- fallback --------------------------------------------------------------------------------------------------------


def test_the_previous_version_serves_if_the_installed_one_does_not_load(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    for model_id in ("a", "b"):
        publish(store, model_id)
        install_current(trusting(store), "production", tmp_path)
    assert ensure_loadable(tmp_path, failing()) is None
    assert ensure_loadable(tmp_path, failing("b")) == "b"
    assert find_bundle(tmp_path).name == "a"
    with pytest.raises(BundleError, match="a does not load"):
        ensure_loadable(tmp_path, failing("a", "b"))
    assert install_current(trusting(store), "production", tmp_path).model_id == "b"
    assert models(tmp_path) == {"a", "b"}


def test_if_nothing_loads_nothing_changes(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(NotFoundError, match="no model has been pulled yet"):
        ensure_loadable(tmp_path, failing())
    for model_id in ("a", "b"):
        publish(store, model_id)
        install_current(trusting(store), "production", tmp_path)
    with pytest.raises(TransferLiteError):
        ensure_loadable(tmp_path, failing("a", "b"))
    assert find_bundle(tmp_path).name == "b"


# -- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the free space that every disk reports."""

    def work(free: int) -> None:
        usage = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)

    return work


def test_a_failed_version_is_deleted_before_the_next_download(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    publish(store, "half")
    store.delete("models/half/int8.tflite")
    with pytest.raises(NotFoundError):
        install_current(trusting(store), "production", tmp_path)
    publish(store, "b")
    store.delete("models/b/int8.tflite")
    with pytest.raises(NotFoundError):
        install_current(trusting(store), "production", tmp_path)
    assert models(tmp_path) == {"a", "b"}


def test_partial_files_are_deleted_before_the_state_is_saved_on_a_full_disk(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    partial = tmp_path / "a" / ".transferlite-0.part"
    partial.write_bytes(b"the rest of the disk")
    publish(store, "b")

    def write(path: Path, data: bytes) -> None:
        if partial.exists():
            raise DiskFullError("No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("transferlite.edge.install_state.write_durably", write)
    assert install_current(trusting(store), "production", tmp_path).model_id == "b"


def test_a_folder_on_a_disk_that_is_not_mounted_is_not_created(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    with pytest.raises(NotFoundError, match=r"/stick/model: its parent folder does not exist; mount its disk, or"):
        install_current(trusting(store), "production", tmp_path / "stick" / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EROFS, "Read-only file system; remount the disk for writing"),
        (errno.ENOSPC, "No space left on device; delete other files on this disk"),
        (errno.EIO, "Input/output error; connect the disk again"),
    ],
)
def test_each_failure_of_a_disk_says_what_to_do(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    store = MemoryStore()
    publish(store, "a")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("transferlite.storage.atomic_write.os.fsync", fail)
    with pytest.raises(TransferLiteError, match=hint):
        install_current(trusting(store), "production", tmp_path)


def test_without_space_nothing_is_downloaded(publish: Publish, tmp_path: Path, disk: Callable[[int], None]) -> None:
    store = MemoryStore()
    publish(store, "a")
    disk(1000)
    with pytest.raises(DiskFullError, match=r"/a: the disk has 0\.0 MB free, and the download needs 0\.3 MB; delete"):
        install_current(trusting(store), "production", tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir()] == []
    disk(10**6)
    assert install_current(trusting(store), "production", tmp_path).model_id == "a"


@pytest.mark.parametrize("loads", [True, False])
def test_the_previous_version_makes_space_if_the_installed_one_loads(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: bool
) -> None:
    store = MemoryStore()
    for model_id in ("a", "b"):
        publish(store, model_id)
        install_current(trusting(store), "production", tmp_path)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=0 if (tmp_path / "a").exists() else 10**6))
    publish(store, "c")
    check = failing() if loads else failing("b")
    if not loads:
        with pytest.raises(DiskFullError):
            install_current(trusting(store), "production", tmp_path, load_check=check)
        assert models(tmp_path) == {"a", "b", "c"}
        return
    assert install_current(trusting(store), "production", tmp_path, load_check=check).model_id == "c"
    assert models(tmp_path) == {"b", "c"}
    assert ensure_loadable(tmp_path, failing("c")) == "c"


# -- memory cards ----------------------------------------------------------------------------------------------------


def opened(path: Path) -> Registry:
    return replace(Registry.open(str(path)), keys=ed25519().public_keys)


@pytest.fixture
def card(publish: Publish, tmp_path: Path) -> Path:
    """A folder into which version b was pulled without a key."""
    store = FolderStore(tmp_path / "registry")
    publish(store, "a")
    install_current(Registry(store), "production", tmp_path / "older")
    publish(store, "b")
    install_current(Registry(store), "production", tmp_path / "card")
    return tmp_path / "card"


def test_a_registry_on_a_card_is_installed(card: Path, tmp_path: Path) -> None:
    assert install_current(opened(card.parent / "registry"), "production", tmp_path / "device").model_id == "b"


def test_a_pulled_folder_on_a_card_is_installed_and_replays_are_refused(card: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    assert install_current(opened(card), "production", device).model_id == "b"
    assert Pointer.from_json((device / CURRENT).read_bytes()).envelope
    with pytest.raises(UntrustedError, match="is older"):
        install_current(opened(tmp_path / "older"), "production", device)
    with pytest.raises(NotFoundError, match="there is no channel 'staging'; use --channel production"):
        install_current(opened(card), "staging", device)


def test_a_single_bundle_on_a_card_is_installed_unless_it_is_older(card: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    created_at = {"old": "2026-01-01T00:00:00+00:00", "new": "2026-03-01T00:00:00+00:00"}
    for name, moment in created_at.items():
        manifest = replace(write_bundle(tmp_path / name, name), created_at=moment)
        (tmp_path / name / MANIFEST).write_bytes(manifest.to_json())
        (tmp_path / name / SIGNATURE).write_bytes(signature_of(manifest.to_json(), ed25519()))
    install_current(opened(card), "production", device)
    assert install_current(opened(tmp_path / "new"), "production", device).model_id == "new"
    with pytest.raises(UntrustedError, match=r"was made 2026-01-01.*, before the installed model"):
        install_current(opened(tmp_path / "old"), "production", device)
    assert find_bundle(device).name == "new"
    assert install_current(opened(tmp_path / "old"), "production", tmp_path / "fresh").model_id == "old"
    with pytest.raises(UntrustedError, match=r"was made 2026-01-01.*, before the installed model"):
        install_current(Registry.open(str(tmp_path / "old")), "production", device)
    assert find_bundle(device).name == "new"


def test_the_installed_bundle_on_a_card_repairs_it(card: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    bundle = install_current(opened(card), "production", device).bundle
    (bundle / MANIFEST).write_bytes(b"damaged")
    assert install_current(opened(find_bundle(card)), "production", device).repaired == (MANIFEST,)


def test_a_single_bundle_of_another_key_is_refused(card: Path, tmp_path: Path) -> None:
    stranger = ed25519("stranger")
    bundle = find_bundle(card)
    (bundle / SIGNATURE).write_bytes(signature_of((bundle / MANIFEST).read_bytes(), stranger))
    with pytest.raises(UntrustedError, match="another key"):
        install_current(opened(bundle), "production", tmp_path / "device")


def test_the_files_in_the_folder_are_those_of_the_documentation(publish: Publish, tmp_path: Path) -> None:
    store = MemoryStore()
    publish(store, "a")
    install_current(trusting(store), "production", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, STATE_FILE, "a"}
    state = json.loads((tmp_path / STATE_FILE).read_bytes())
    pointer = owners(store).channel("production")
    assert state == {
        "sequences": {"production": pointer.sequence},
        "versions": ["a"],
        "previous": None,
        "refused": None,
        "withdrawn": {},
        "newest": json.loads(pointer.to_json()),
    }
