"""Print predictions as text or JSON lines, and append them to a file.

A file name on Linux is bytes. Python's strings hold bytes that are not UTF-8 as lone surrogates (``surrogateescape``),
and JSON lines hold these escaped, as ``\\udce9`` for the byte E9: ``os.fsencode`` gives the name's bytes back.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transferlite.errors import InputError, PhotoError, TransferLiteError

if TYPE_CHECKING:
    from transferlite.images.decoder import Photo
    from transferlite.inference.prediction import Prediction
    from transferlite.predict.predictor import Predictor


_SURROGATE = re.compile("[\ud800-\udfff]")


def to_json_line(record: dict[str, Any]) -> str:
    """Return a record as JSON on one line that can be encoded as UTF-8."""
    text = json.dumps(record, ensure_ascii=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class OutputFile:
    """File that JSON lines are appended to; a line that could not be written completely is ended before the next one.

    Args:
        path: its path, for error messages.
        file: the open file, unbuffered.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        self._has_open_line = _has_open_line(file)

    def append(self, line: str) -> None:
        """Write a line at once. Raises OSError with the file's name."""
        data = b"\n" * self._has_open_line + line.encode() + b"\n"
        while data:
            try:
                written = self._file.write(data) or 0
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path)) from None
            data = data[written:]
            self._has_open_line = bool(data)


def _has_open_line(file: FileIO) -> bool:
    """Return whether a file lacks its last line end, for example because of a power cut."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return False
    size = file.seek(0, os.SEEK_END)
    return size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"


@dataclass(frozen=True)
class PredictionPrinter:
    """Predict photos and print the results.

    Attributes:
        predictor: the loaded model.
        top: number of labels to print.
        as_json: print JSON lines instead of text.
        output: file to append JSON lines to; None for none.
    """

    predictor: "Predictor"
    top: int = 3
    as_json: bool = False
    output: OutputFile | None = None

    def predict_or_print_error(self, name: str, photo: "Photo") -> TransferLiteError | None:
        """Print the prediction of one photo, or its error; return the error."""
        try:
            self.predict(name, photo)
        except TransferLiteError as error:
            self.print_error(name, error)
            return error
        return None

    def predict(self, name: str, photo: "Photo") -> None:
        """Print the prediction of one photo.

        Raises:
            TransferLiteError: there is no prediction; nothing is printed.
            OSError: the file or standard output cannot be written.
        """
        from transferlite.inference.prediction import UNKNOWN

        prediction = self._predict(photo)
        scores = ", ".join(f"{label} {score:.3f}" for label, score in prediction.top)
        text = f"unknown, {prediction.reason} ({scores})" if prediction.label == UNKNOWN else scores
        self._write({"image": name, **prediction.to_dict()}, f"{name}: {text}")

    def _predict(self, photo: "Photo") -> "Prediction":
        try:
            return self.predictor(photo, self.top)
        except TransferLiteError:
            raise
        except Exception as error:  # even a bug must not end the predictions of the other photos
            message = f"internal error: {type(error).__name__}: {error}"
            raise PhotoError("internal-error", message, hint="please report it") from error

    def print_error(self, name: str, error: TransferLiteError) -> None:
        """Print why a photo has no prediction: to standard error, or as a JSON line."""
        code = getattr(error, "code", type(error).__name__)
        prefix = "" if error.where else f"{name}: "
        record = {"image": name, "error": {"code": code, "message": error.message}}
        self._write(record, f"error: {prefix}{error}", to_stderr=True)

    def _write(self, record: dict[str, Any], line: str, to_stderr: bool = False) -> None:
        text = to_json_line(record)
        if self.output is not None:
            self.output.append(text)
        if self.as_json:
            click.echo(text)
        else:
            click.echo(line, err=to_stderr)


@contextmanager
def open_output(path: Path | None) -> Iterator[OutputFile | None]:
    """Open a file to append lines to. None for None.

    Raises:
        InputError: the file is named like a photo, or is a folder.
        TransferLiteError: it cannot be opened.
    """
    from transferlite.images.find_photos import is_photo
    from transferlite.storage.os_errors import translate_os_errors

    if path is None:
        yield None
        return
    if is_photo(path.name):
        raise InputError("has a photo's extension", where=f"--out {path}", hint="name it .jsonl")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    with file:
        yield OutputFile(path, file)


def read_photo_names(path: Path | None) -> set[str]:
    """Read the names of the photos in a file of JSON lines, predictions and errors alike; skip damaged lines."""
    names = set()
    if path is not None and path.is_file():
        with path.open("rb") as file:
            for line in file:
                try:
                    names.add(str(json.loads(line)["image"]))
                except (ValueError, LookupError, TypeError):
                    continue
    return names
