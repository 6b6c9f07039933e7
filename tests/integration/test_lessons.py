"""Regressions: faults that occurred before, or nearly did."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Trained
from tests.pictures import jpeg, write_folders
from transferlite.errors import AccessDeniedError, TransferLiteError
from transferlite.images.decoder import decode
from transferlite.images.input_spec import InputSpec
from transferlite.registry.channel_pointer import Pointer
from transferlite.registry.open_registry import Registry
from transferlite.storage.folder import FolderStore
from transferlite.storage.s3_boto3 import S3Store
from transferlite.storage.store import Blob


def test_a_webp_with_a_truncated_exif_block_is_decoded() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "WEBP", exif=b"Exif\0\0II*\0")
    assert decode(file.getvalue()).shape == (8, 8, 3)


def test_a_channel_is_not_moved_to_a_version_that_lacks_a_variant_it_serves(trained: Trained) -> None:
    from train_job.pipeline.promotion import unserved

    registry = Registry.open(str(trained.registry))
    variants = trained.result.manifest.variants
    assert unserved(registry, "production", variants, {}) == ()
    poorer = {name: value for name, value in variants.items() if name != "int8"}
    (reason,) = unserved(registry, "production", poorer, {"int8": "too wrong"})
    assert reason == "int8 is served there, and this version lacks it: too wrong"
    assert unserved(registry, "a-new-channel", poorer, {}) == ()


def test_training_disables_tensor_float_32(trained: Trained) -> None:
    import tensorflow as tf

    assert trained.result
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_names_that_are_not_utf_8_are_used_and_other_extensions_are_rejected(tmp_path: Path) -> None:
    from train_job.data.labels.read_labels import read_dataset

    photos = write_folders(tmp_path / "photos", 2)
    Path(os.fsdecode(os.fsencode(photos / "red") + b"/caf\xe9.jpg")).write_bytes(jpeg("red", 9))
    (photos / "red" / "phone.mov").write_bytes(b"mov")
    dataset = read_dataset(str(photos))
    assert len(dataset.examples) == 5
    assert os.fsencode(photos / "red") + b"/caf\xe9.jpg" in {os.fsencode(example.image) for example in dataset.examples}
    assert [reject.code for reject in dataset.rejected] == ["not-photo-name"]
    assert all(reject.uri.isprintable() for reject in dataset.rejected)
    dataset.check_rejected_share(0.2)


def test_a_link_to_a_parent_folder_is_not_followed(tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 1)
    (photos / "red" / "self").symlink_to(".")
    (photos / "red" / "up").symlink_to(photos)
    assert [entry.key for entry in FolderStore(photos).entries()] == ["blue/blue.0.jpg", "red/red.0.jpg"]


@pytest.mark.parametrize("content", [None, b"{}", b'{"schema": 99}'])
def test_a_channel_with_an_unreadable_version_does_not_stop_the_next_training(
    trained: Trained, tmp_path: Path, content: bytes | None
) -> None:
    from train_job.options import DEFAULT_SPLIT
    from train_job.pipeline.previous_version import PreviousVersion, read_previous_version
    from train_job.pipeline.promotion import unserved

    registry = Registry.open(str(tmp_path))
    registry.store.put("channels/production.json", Pointer("gone", (), "").to_json())
    if content is not None:
        registry.store.put("models/gone/manifest.json", content)
    assert read_previous_version(registry, "production", DEFAULT_SPLIT) == PreviousVersion()
    assert unserved(registry, "production", trained.result.manifest.variants, {}) == ()
    registry.publish(trained.bundle, trained.result.manifest)
    assert registry.promote(trained.result.manifest.model_id, "production").previous == ("gone",)


def test_an_object_that_s3_refuses_does_not_stop_the_job(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_job.data.example import Example, RejectedPhoto
    from train_job.data.load_photos import load_photos

    assert bucket

    def refuse(self: S3Store, key: str, max_bytes: int | None = None) -> Blob:
        raise TransferLiteError("S3 answered 400 KMS.DisabledException", where=key)

    monkeypatch.setattr(S3Store, "get", refuse)
    (reject,) = load_photos([Example("s3://test-bucket/a.jpg", "cat", 7)], InputSpec(32, 32))
    assert isinstance(reject, RejectedPhoto)
    assert (reject.row, reject.code) == (7, "unusable")


def test_a_registry_in_an_unwritable_folder_is_rejected_immediately(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(AccessDeniedError):
        FolderStore(tmp_path / "new").check_writable()
