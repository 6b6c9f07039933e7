"""Tell which folders below a root are classes, and which are splits or only wrap the others."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from train_job.data.example import Split
from train_job.data.labels.find_columns import SPLIT_WORDS
from train_job.data.labels.match_photos import to_nfc
from transferlite.errors import InputError
from transferlite.images.find_photos import is_junk, is_photo
from transferlite.storage.store import join_uri

ROBOFLOW_LABELS = "_classes.csv"
"""Name of the label file that Roboflow writes into each split folder of a multi-label export."""


class FolderLabel(NamedTuple):
    """Class and split that a photo's folders name; the label is empty for a photo in no class folder."""

    label: str
    split: Split | None = None


@dataclass(frozen=True)
class FolderLayout:
    """Meaning of the folders below a root.

    Attributes:
        outer: folders that wrap all class folders, with a final slash; empty if there are none.
        split_index: index of the split's folder below ``outer``: 0 for ``train/cat``, 1 for ``cat/train``.
        splits: split by the name of its folder; empty if the folders name no splits.
        remark: how the folders were interpreted, for the log; empty for a folder per class.
    """

    outer: str = ""
    split_index: int = 0
    splits: Mapping[str, Split | None] = field(default_factory=dict)
    remark: str = ""

    def parse(self, key: str) -> FolderLabel:
        """Return the class and the split of the photo with this key."""
        folders = key.lstrip("/").removeprefix(self.outer).split("/")[:-1]
        if not self.splits:
            return FolderLabel(to_nfc(folders[0]) if folders else "")
        if len(folders) < 2 or folders[self.split_index] not in self.splits:
            return FolderLabel("")
        return FolderLabel(to_nfc(folders[1 - self.split_index]), self.splits[folders[self.split_index]])


def find_layout(root: str, keys: Iterable[str], classes: Sequence[str], allow_splits: bool = True) -> FolderLayout:
    """Find out which folders are classes.

    Class folders may lie in one outer folder. Folders named like splits, such as ``train``, ``valid`` and ``test``, are
    splits if all folders beside them are, and the class folders lie in them, or they lie in every class folder.

    Args:
        root: URI or path of the photos' root, for messages.
        keys: keys of all files below the root.
        classes: the classes that the user named; a folder with such a name is a class.
        allow_splits: whether to accept splits; a test set has none.

    Raises:
        InputError: it is not clear whether folders are splits, or split folders hold photos without class folders.
    """
    photo_folders, all_folders, roboflow = set(), set(), set()  # distinct folders: a million files have few
    for key in keys:
        folder, _, name = key.lstrip("/").rpartition("/")
        if is_junk(key):
            continue
        all_folders.add(folder)
        if is_photo(key):
            photo_folders.add(folder)
        elif name == ROBOFLOW_LABELS:
            roboflow.add(folder)
    paths = list(map(_split_path, photo_folders))
    outer = _outer_folder(list(map(_split_path, all_folders)), paths, classes)
    folders = [path[len(outer) : -1] for path in paths]
    remark = f"{'/'.join(outer)}/ is the only folder: the folders in it are the classes" if outer else ""
    prefix = "".join(f"{folder}/" for folder in outer)
    for index in (0, 1):
        names = {path[index] for path in folders if len(path) > index}
        splits = {name: SPLIT_WORDS[name.lower()] for name in sorted(names) if name.lower() in SPLIT_WORDS}
        if len(set(splits.values())) < 2 or not splits.keys().isdisjoint(classes):
            continue
        problem = _Problem(join_uri(root, prefix).rstrip("/"), splits)
        if index == 0:
            _check_split_folders(problem, folders, names, roboflow)
        elif names != splits.keys() or any(len(path) == 1 for path in folders):
            continue
        if not allow_splits:
            raise problem.error("is not a test set: its folders {} are splits", f"--test-images {problem.test}")
        if Split.TRAIN not in splits.values():
            raise problem.error("holds the splits {} and no training photos", "add a folder train")
        kept = splits if len(set(splits.values())) == 3 else _let_job_split(splits)
        return FolderLayout(prefix, index, kept, _split_remark(splits, kept))
    return FolderLayout(prefix, remark=remark)


def _split_path(folder: str) -> list[str]:
    """Split the path of a file in this folder; the file's name is empty."""
    return [*folder.split("/"), ""] if folder else [""]


class _Problem(NamedTuple):
    """Folders that are named like splits, and the root that holds them."""

    root: str
    splits: Mapping[str, Split]

    @property
    def test(self) -> str:
        """Location of the test folder, or of the validation folder if there is none."""
        return join_uri(self.root, self._folder(Split.TEST, Split.VALIDATION))

    @property
    def train(self) -> str:
        """Location of the training folder."""
        return join_uri(self.root, self._folder(Split.TRAIN, Split.VALIDATION))

    def _folder(self, *wanted: Split) -> str:
        return next(name for split in wanted for name, value in self.splits.items() if value is split)

    def error(self, message: str, hint: str) -> InputError:
        """Return an error in whose message ``{}`` is replaced by the folders."""
        return InputError(message.format(", ".join(map(repr, self.splits))), where=self.root, hint=hint)


def _outer_folder(files: Sequence[Sequence[str]], paths: Sequence[Sequence[str]], classes: Sequence[str]) -> list[str]:
    """Return the folders that wrap at least two other folders each, and that no photo lies beside or directly in.

    ``files`` are the paths of all files, and ``paths`` those of the photos.
    """
    outer: list[str] = []
    while True:
        depth = len(outer)
        tops = {path[depth] for path in files if len(path) > depth + 1}
        inner = {path[depth + 1] if len(path) > depth + 2 else "" for path in paths}
        if len(tops) != 1 or "" in inner or (len(inner) < 2 and not _wraps_further(paths, depth)):
            return outer
        (top,) = tops
        if to_nfc(top) in classes:
            return outer
        outer.append(top)


def _wraps_further(paths: Sequence[Sequence[str]], depth: int) -> bool:
    """Return whether several folders lie below the only folder in the only folder at this depth."""
    return len({path[depth + 2] for path in paths if len(path) > depth + 3}) > 1


def _check_split_folders(
    problem: _Problem, folders: Sequence[Sequence[str]], names: set[str], roboflow: Set[str]
) -> None:
    """Raise InputError if split folders lie beside other folders, or hold no class folders."""
    all_classes = f"--classes {','.join(sorted(names))} if all are classes"
    if others := sorted(names - problem.splits.keys()):
        message = f"has the folders {{}}, which look like splits, beside {', '.join(map(repr, others))}"
        hint = f"--images {problem.train} --test-images {problem.test} if they are splits, {all_classes}"
        raise problem.error(message, hint)
    if any(len(path) > 1 for path in folders):
        return
    hint = f"pass their labels with --labels, or {all_classes}"
    if roboflow:
        pairs = ((problem.train, "--images {0} --labels {0}/"), (problem.test, "--test-images {0} --test-labels {0}/"))
        hint = " ".join(text.format(folder) + ROBOFLOW_LABELS for folder, text in pairs)
    raise problem.error("has the folders {}, which look like splits and hold no class folders", hint)


def _let_job_split(splits: Mapping[str, Split]) -> dict[str, Split | None]:
    """Let the job take the missing validation or test photos out of the training photos."""
    return {name: None if split is Split.TRAIN else split for name, split in splits.items()}


def _split_remark(splits: Mapping[str, Split], kept: Mapping[str, Split | None]) -> str:
    used = ", ".join(f"{name}/ for {split}" for name, split in splits.items())
    missing = sorted({*Split} - set(splits.values()))
    from_train = f"; {missing[0]} photos are taken out of the training photos" if None in kept.values() else ""
    return f"the folders are splits, with a folder per class: {used}{from_train}"
