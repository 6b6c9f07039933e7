"""Format the CSV files of a version's ``training/`` folder: dataset, departed, learnt, quarantine, notes, history."""

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

import numpy as np

from train_job.data.example import RejectedPhoto, Split
from train_job.data.photos import SPLIT_CODES, SPLITS, Photos
from train_job.data.split_table import SplitTable
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


def dataset_csv(photos: Photos, splits: SplitTable) -> str:
    """Format the photos of a version, one per line: ``image,label,sha256,split``."""
    codes = map(SPLITS.__getitem__, splits.lookup(photos.digests).tolist())
    rows = ((photo.image, photo.label, photo.sha256, split) for photo, split in zip(photos, codes, strict=True))
    return _csv(("image", "label", "sha256", "split"), rows)


def departed_csv(previous: SplitTable, current: SplitTable) -> str:
    """Format photos that only earlier versions had: ``sha256,split``. A photo that comes back keeps its split."""
    return _splits_csv(previous.without(current.digests))


def learnt_csv(ancestors: SplitTable, current: SplitTable) -> str:
    """Format photos that only the weights of the warm start learnt from: ``sha256,split``.

    ``ancestors`` has the photos that the weights learnt from before, ``current`` the splits of the version's photos.
    """
    now = current.lookup(ancestors.digests)
    is_covered = (now == ancestors.codes) | (now == SPLIT_CODES[Split.TRAIN])
    return _splits_csv(ancestors.without(ancestors.digests[is_covered]))


def _splits_csv(splits: SplitTable) -> str:
    codes = map(SPLITS.__getitem__, splits.codes.tolist())
    return _csv(("sha256", "split"), zip(splits, codes, strict=True))


def quarantine_csv(photos: Sequence[RejectedPhoto]) -> str:
    """Format rejected photos (or notes), one per line: ``row,uri,code,reason,what_to_do``."""
    rows = ((photo.row, photo.uri, photo.code, photo.reason, advice_for(photo.code)) for photo in photos)
    return _csv(("row", "uri", "code", "reason", "what_to_do"), rows)


def history_csv(history: Sequence["Epoch"]) -> str:
    """Format the epochs, one per line: ``epoch,loss,accuracy,val_loss,val_accuracy``."""
    from train_job.head.recipe import Epoch  # imports TensorFlow

    return _csv([column.name for column in fields(Epoch)], map(astuple, history))


def dataset_sha256(photos: Photos) -> str:
    """Hash the photos' contents and labels, in hexadecimal; order and file names do not matter."""
    rank = np.argsort(photos.labels).argsort() if photos.labels else np.zeros(0, np.int64)
    digest = hashlib.sha256()
    for photo in photos.take(np.lexsort((rank[photos.label_codes], photos.digests))):
        digest.update(f"{photo.sha256} {photo.label}\n".encode())
    return digest.hexdigest()
