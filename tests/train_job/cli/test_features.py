import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train_job.known_rows import FLIPPED, SPACE, WIDTH, add, assert_holds, files_below, hashes_of
from train_job.store.feature_store import FeatureStore
from train_job.store.photo_index import PhotoRecord
from transferlite.cli.main import run
from transferlite.images.input_spec import DECODER_VERSION
from transferlite.storage.folder import FolderStore
from transferlite.storage.store import join_uri


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    """Ten photos in a folder with their rows in two spaces, and one that cannot be used."""
    images = FolderStore(tmp_path / "photos")
    features = FeatureStore.open(str(tmp_path / "features"))
    for photo in range(11):
        images.put(f"{photo}.jpg", b"%d" % photo)
    for photo in range(10):
        uri, stamp = join_uri(images.uri, f"{photo}.jpg"), images.head(f"{photo}.jpg").stamp
        features.add_photos([PhotoRecord(uri, stamp, hashes_of([photo])[0], DECODER_VERSION)])
    uri, stamp = join_uri(images.uri, "10.jpg"), images.head("10.jpg").stamp
    features.add_photos([PhotoRecord(uri, stamp, "", DECODER_VERSION, "truncated", "the end is missing")])
    for start in range(0, 10, 2):
        add(features, range(start, start + 2))
    add(features, range(3), FLIPPED)
    return features


def features_command(features: FeatureStore, *words: str) -> int:
    """Run ``transferlite features WORDS --features ...``."""
    return run(["features", *words, "--features", features.store.uri])


def test_stats_describe_each_space_and_the_photos(features: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert features_command(features, "stats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    (plain,) = (line for line in lines if line.startswith(SPACE.id))
    assert f"efficientnet_lite0 64x64 pool plain float32, decoder {DECODER_VERSION}: 10 rows of {WIDTH}" in plain
    assert "MiB in 5 parts)" in plain
    assert any(line.startswith(FLIPPED.id) and "flip-1" in line for line in lines)
    assert lines[2] == "11 known photos, 1 of them rejected"


def test_stats_are_given_as_json(features: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert features_command(features, "stats", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["photos"], shown["rejects"]) == (11, 1)
    spaces = {space["id"]: space for space in shown["spaces"]}
    assert spaces.keys() == {SPACE.id, FLIPPED.id}
    plain = spaces[SPACE.id]
    assert (plain["backbone"], plain["layer"], plain["view"]) == ("efficientnet_lite0", "pool", "plain")
    assert (plain["rows"], plain["parts"], plain["width"], plain["input"][:2]) == (10, 5, WIDTH, [64, 64])
    assert plain["bytes"] == sum(features.row_parts(SPACE).sizes().values())


def test_compact_merges_every_space_and_the_photos(
    features: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features_command(features, "compact") == 0
    out = capsys.readouterr().out.splitlines()
    assert out == ["compact: 16 of 16", f"{4 + 10} fewer parts"]
    assert len(files_below(tmp_path / "features")) == 2 * 3 + 1
    assert_holds(features, range(10))
    assert features_command(features, "compact") == 0
    assert capsys.readouterr().out == "nothing to merge\n"


def test_prune_deletes_removed_photos(
    features: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "1.jpg").unlink()
    (tmp_path / "photos" / "9.jpg").unlink()
    before = files_below(tmp_path / "features")
    words = ["prune", "--images", str(tmp_path / "photos")]
    assert features_command(features, *words, "--dry-run") == 0
    assert files_below(tmp_path / "features") == before
    dry = capsys.readouterr().out
    assert features_command(features, *words) == 0
    out = capsys.readouterr().out
    assert out == dry.replace("would delete", "deleted")
    assert sorted(out.splitlines()) == [
        f"deleted 1 rows of efficientnet_lite0 pool flip-1 ({FLIPPED.id})",
        "deleted 2 of 11 known photos",
        f"deleted 2 rows of efficientnet_lite0 pool plain ({SPACE.id})",
        "prune: 3 of 3",
    ]
    assert_holds(features, [0, 2, 3, 4, 5, 6, 7, 8])


def test_prune_deletes_a_space(features: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert features_command(features, "prune", "--space", FLIPPED.id, "--dry-run") == 0
    assert set(features.spaces()) == {SPACE, FLIPPED}
    assert features_command(features, "prune", "--space", FLIPPED.id) == 0
    assert set(features.spaces()) == {SPACE}
    assert capsys.readouterr().out == "would delete 0.0 MiB\ndeleted 0.0 MiB\n"
    assert features_command(features, "prune", "--space", FLIPPED.id) == 2
    assert "there is no space" in capsys.readouterr().err


def test_prune_deletes_leftovers(features: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    name = features.row_parts(FLIPPED).names()[0]
    features.store.delete(f"spaces/{FLIPPED.id}/keys/{name}.arrow")
    assert features_command(features, "prune", "--leftovers") == 0
    assert capsys.readouterr().out == "deleted 1 parts\n"
    assert features.row_parts(FLIPPED).sizes() == {}
    assert_holds(features, range(10))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["prune"], "Pass exactly one of --images, --space and --leftovers."),
        (["prune", "--leftovers", "--space", "a" * 32], "Pass exactly one of --images, --space and --leftovers."),
        (["prune", "--space", "../photos"], "is not a space ID; `transferlite features stats` lists them"),
        (["prune", "--images", "nowhere"], "nowhere: does not exist"),
    ],
)
def test_a_wrong_command_deletes_nothing(
    features: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    before = files_below(tmp_path / "features")
    assert features_command(features, *words) == 2
    assert error in capsys.readouterr().err
    assert files_below(tmp_path / "features") == before


@pytest.mark.parametrize("command", ["stats", "compact", "prune --leftovers"])
def test_a_folder_that_is_not_there_is_no_empty_feature_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    missing = tmp_path / "missing"
    assert run(["features", *command.split(), "--features", str(missing)]) == 2
    assert f"{missing}: there is no such feature store" in capsys.readouterr().err
    assert not missing.exists()


def test_the_commands_do_without_tensorflow(features: FeatureStore) -> None:
    code = (
        "import sys; sys.modules.update(tensorflow=None, keras=None); "
        "from transferlite.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    for words in (["stats"], ["compact"], ["prune", "--leftovers"]):
        command = [sys.executable, "-c", code, "features", *words, "--features", features.store.uri]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
