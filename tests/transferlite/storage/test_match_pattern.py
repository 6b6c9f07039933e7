import glob
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transferlite.storage.match_pattern import PathPattern

PART = st.sampled_from(["a", "b", "ab.jpg", "x[1]", "A", "é"])
PATH = st.lists(PART, min_size=1, max_size=4).map("/".join)
PATTERN = st.lists(
    st.sampled_from(["*", "**", "a", "a*", "?", "[ab]*", "[!a]*", "*.jpg", "ab.jpg", "x[[]1]"]), max_size=4
)


def walk(root: Path, pattern: str) -> list[str]:
    split = PathPattern.split(f"{root}/{pattern}")
    assert split.root == f"{root}/"
    return split.walk(lambda _: False).files


def files_with_glob(root: Path, pattern: str) -> list[str]:
    """Files that ``glob`` matches, and those below the folders that it matches."""
    matches = [Path(name) for name in glob.glob(f"{root}/{pattern}", recursive=True, include_hidden=True)]  # noqa: PTH207
    files = {file for path in matches for file in [path, *path.rglob("*")] if file.is_file()}
    return sorted(file.relative_to(root).as_posix() for file in files)


@settings(max_examples=200, deadline=None)
@given(st.lists(PATH, max_size=12), PATTERN)
@example(["a/b/ab.jpg", "a/x[1]", "b/a/a/b"], ["**", "a", "**", "*"])
@example(["a", "b/a"], ["*", "**"])
def test_an_ordinary_tree_is_matched_as_glob_does(paths: list[str], parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in paths:
            if not any(folder.is_file() for folder in (root / path).parents) and not (root / path).exists():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).touch()
        pattern = "/".join(["*", *parts])
        assert walk(root, pattern) == files_with_glob(root, pattern)


@pytest.fixture
def loops(tmp_path: Path) -> Path:
    """A folder with two links to itself, which ``glob`` would follow 40 times and 2^40 times."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "1.jpg").touch()
    (tmp_path / "sub" / "2.jpg").touch()
    for name in ("loop", "loop2"):
        (tmp_path / name).symlink_to(".")
    return tmp_path


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**", "**/**/*.jpg", "**/*"])
def test_links_to_the_folder_itself_are_followed_once(loops: Path, pattern: str) -> None:
    assert {Path(path).name for path in walk(loops, pattern)} == {"1.jpg", "2.jpg"}
    assert len(walk(loops, pattern)) <= 6


def test_a_pattern_may_name_a_link_that_leads_to_a_listed_folder(loops: Path) -> None:
    (loops / "today").symlink_to("sub")
    assert walk(loops, "to*/*.jpg") == ["today/2.jpg"]
    assert walk(loops, "loop*/s?b/*.jpg") == ["loop/sub/2.jpg"]


@pytest.mark.parametrize(
    ("pattern", "root", "parts"),
    [
        ("*.jpg", "", ("*.jpg",)),
        ("/*.jpg", "/", ("*.jpg",)),
        ("a/b/**/c", "a/b/", ("**", "c")),
        ("../a[1]/x", "../", ("a[1]", "x")),
    ],
)
def test_a_pattern_is_split_at_its_first_wildcard(pattern: str, root: str, parts: tuple[str, ...]) -> None:
    assert PathPattern.split(pattern) == (root, parts)
