"""Format the CSV files of a version's ``training/`` folder: dataset, departed, learnt, quarantine, notes, history."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from train_job.data.example import Example, RejectedPhoto, Split
from train_job.quality.codes import advice_for

if TYPE_CHECKING:
    from train_job.head.recipe import Epoch

DATASET_CSV = "training/dataset.csv"
DEPARTED_CSV = "training/departed.csv"
LEARNT_CSV = "training/learnt.csv"
QUARANTINE_CSV = "training/quarantine.csv"
NOTES_CSV = "training/notes.csv"
CHECK_JSON = "training/check.json"
HISTORY_CSV = "training/history.csv"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def dataset_csv(examples: Sequence[Example], splits: Mapping[str, Split]) -> str:
    """Format the photos of a version, one per line: ``image,label,sha256,split``."""
    rows = ((example.image, example.label, example.sha256, splits[example.sha256].value) for example in examples)
    return _csv(("image", "label", "sha256", "split"), rows)


def departed_csv(previous: Mapping[str, Split], current: Mapping[str, Split]) -> str:
    """Format photos that only earlier versions had: ``sha256,split``. A photo that comes back keeps its split."""
    rows = sorted((sha256, split.value) for sha256, split in previous.items() if sha256 not in current)
    return _csv(("sha256", "split"), rows)


def learnt_csv(ancestors: Mapping[str, Split], current: Mapping[str, Split]) -> str:
    """Format photos that only the weights of the warm start learnt from: ``sha256,split``.

    ``ancestors`` has the photos that the weights learnt from before, ``current`` the splits of the version's photos.
    """
    rows = sorted(
        (sha256, split.value) for sha256, split in ancestors.items() if current.get(sha256) not in (split, Split.TRAIN)
    )
    return _csv(("sha256", "split"), rows)


def quarantine_csv(photos: Sequence[RejectedPhoto]) -> str:
    """Format rejected photos (or notes), one per line: ``row,uri,code,reason,what_to_do``."""
    rows = ((photo.row, photo.uri, photo.code, photo.reason, advice_for(photo.code)) for photo in photos)
    return _csv(("row", "uri", "code", "reason", "what_to_do"), rows)


def history_csv(history: Sequence["Epoch"]) -> str:
    """Format the epochs, one per line: ``epoch,loss,accuracy,val_loss,val_accuracy``."""
    from train_job.head.recipe import Epoch  # imports TensorFlow

    return _csv([column.name for column in fields(Epoch)], map(astuple, history))


def dataset_sha256(examples: Iterable[Example]) -> str:
    """Hash the photos' contents and labels, in hexadecimal; order and file names do not matter."""
    lines = sorted(f"{example.sha256} {example.label}\n" for example in examples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
