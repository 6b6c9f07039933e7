from pathlib import Path

from train_job.store.conversion_store import ConversionStore
from transferlite.storage.folder import FolderStore

KEY = {"file": "backbone.tflite", "input": [32, 32, "bicubic"]}


def test_a_conversion_is_made_once_and_read_afterwards(tmp_path: Path) -> None:
    contents = iter([b"first", b"second"])
    for _ in range(2):
        store = ConversionStore(FolderStore(tmp_path), lambda _: None)
        assert store.read_or_make(KEY, lambda: next(contents)) == b"first"
    assert store.read(KEY | {"input": [64, 64, "bicubic"]}) is None


def test_a_damaged_conversion_is_reported_and_made_again(tmp_path: Path) -> None:
    warnings: list[str] = []
    store = ConversionStore(FolderStore(tmp_path), warnings.append)
    store.write(KEY, b"whole")
    (path,) = tmp_path.glob("conversions/*/*")
    path.write_bytes(b"who")
    assert store.read_or_make(KEY, lambda: b"whole") == b"whole"
    assert warnings == [f"{tmp_path}/{path.relative_to(tmp_path)}: damaged file ignored; delete it"]
    assert path.read_bytes() == b"whole"
    assert store.read(KEY) == b"whole"
