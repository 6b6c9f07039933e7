"""The cache of remote versions: bounded, and safe for processes that use it at once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transferlite.registry.conftest import Publish, file_names
from transferlite.registry.manifest import MANIFEST
from transferlite.registry.model_cache import cache_in_use, clear_cache
from transferlite.registry.open_registry import Registry
from transferlite.storage.store import MemoryStore

VERSIONS = ("a", "b", "c", "d")


@pytest.fixture
def use(publish: Publish, tmp_path: Path) -> Callable[..., set[str]]:
    """Function that uses versions of a remote registry one after the other and returns what the cache then holds."""
    registry = Registry(MemoryStore())
    publish(registry, *VERSIONS)

    def use_versions(*model_ids: str) -> set[str]:
        for number, model_id in enumerate(model_ids):
            with registry.local_bundle(model_id, tmp_path / "cache", ["float32"]) as bundle:
                assert file_names(bundle) == {"float32.tflite", "labels.txt", MANIFEST}
            os.utime(bundle, ns=(number + 1, number + 1))  # in order, however coarse the file system's clock is
        return {path.name for path in (tmp_path / "cache").iterdir()}

    return use_versions


def test_the_last_two_versions_are_kept(use: Callable[..., set[str]]) -> None:
    assert use("a") == {"a"}
    assert use("b") == {"a", "b"}
    assert use(*VERSIONS) == {"c", "d"}


def test_the_last_two_are_those_used_last_not_made_last(use: Callable[..., set[str]]) -> None:
    assert use("a", "b", "a", "c") == {"a", "c"}


def test_leftovers_of_killed_processes_are_deleted(use: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "cache" / ".transferlite-0123" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "x").mkdir()
    (tmp_path / "cache" / "x" / ".transferlite-1.part").write_bytes(b"half a download")
    os.utime(tmp_path / "cache" / "x", (0, 0))
    assert use("a", "b") == {"a", "b"}


def test_other_files_in_the_cache_stay(use: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "notes").write_text("mine")
    (tmp_path / "cache" / "my folder").mkdir()
    assert use("a", "b", "c") == {"b", "c", "notes", "my folder"}


def test_no_version_is_deleted_while_a_process_loads_one(use: Callable[..., set[str]], tmp_path: Path) -> None:
    code = "import sys, pathlib\nfrom transferlite.registry.model_cache import cache_in_use\n"
    code += "with cache_in_use(pathlib.Path(sys.argv[1]), 'a'): print('in use', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in use\n"
        assert use("a", "b", "c") == {"a", "b", "c"}
        other.communicate("")
    assert use("d") == {"a", "d"}


def test_an_error_while_loading_deletes_nothing(use: Callable[..., set[str]], tmp_path: Path) -> None:
    use("a", "b")
    with pytest.raises(ValueError, match="damaged"), cache_in_use(tmp_path / "cache", "c"):
        raise ValueError("damaged")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"a", "b"}


def test_a_cache_of_one_process_is_cleared_but_for_one_version(use: Callable[..., set[str]], tmp_path: Path) -> None:
    use("a", "b")
    (tmp_path / "cache" / ".transferlite-0123").mkdir()
    clear_cache(tmp_path / "cache", "b")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"b"}
    clear_cache(tmp_path / "none", "b")
