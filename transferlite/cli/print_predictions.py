"""Print predictions as text or JSON lines, and append them to a file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from transferlite.errors import TransferLiteError

if TYPE_CHECKING:
    from transferlite.images.decoder import Photo
    from transferlite.predict.predictor import Predictor


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
    output: BinaryIO | None = None

    def predict_or_print_error(self, name: str, photo: "Photo") -> TransferLiteError | None:
        """Print the prediction of one photo, or its error; return the error."""
        try:
            self.predict(name, photo)
        except TransferLiteError as error:
            self.print_error(name, error)
            return error
        return None

    def predict(self, name: str, photo: "Photo") -> None:
        """Print the prediction of one photo. Raises TransferLiteError, and then prints nothing."""
        from transferlite.inference.prediction import UNKNOWN

        prediction = self.predictor(photo, self.top)
        scores = ", ".join(f"{label} {score:.3f}" for label, score in prediction.top)
        text = f"unknown ({scores})" if prediction.label == UNKNOWN else scores
        self._write({"image": name, **prediction.to_dict()}, f"{name}: {text}")

    def print_error(self, name: str, error: TransferLiteError) -> None:
        """Print why a photo has no prediction: to standard error, or as a JSON line."""
        code = getattr(error, "code", type(error).__name__)
        prefix = "" if error.where else f"{name}: "
        record = {"image": name, "error": {"code": code, "message": error.message}}
        self._write(record, f"error: {prefix}{error}", to_stderr=True)

    def _write(self, record: dict[str, Any], line: str, to_stderr: bool = False) -> None:
        text = json.dumps(record, ensure_ascii=False)
        if self.output is not None:
            self.output.write(text.encode() + b"\n")  # unbuffered: one write per line
        if self.as_json:
            click.echo(text)
        else:
            click.echo(line, err=to_stderr)


@contextmanager
def open_output(path: Path | None) -> Iterator[BinaryIO | None]:
    """Open a file to append lines to; a line that a power cut left incomplete gets its line end. None for None."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")
        yield file


def read_photo_names(path: Path | None) -> set[str]:
    """Names of the photos in a file of JSON lines, predictions and errors alike; damaged lines are skipped."""
    names = set()
    if path is not None and path.exists():
        with path.open("rb") as file:
            for line in file:
                try:
                    names.add(str(json.loads(line)["image"]))
                except (ValueError, LookupError, TypeError):
                    continue
    return names
