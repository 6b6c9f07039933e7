"""What the predictor says of photos, written as lines: for people, as JSON, and to a file that keeps them."""

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
    """Asks a predictor and writes what it says.

    Attributes:
        predictor: who is asked.
        top: how many labels are told.
        as_json: whether standard output gets JSON lines.
        log: a file that gets JSON lines too; None for none.
    """

    predictor: "Predictor"
    top: int = 3
    as_json: bool = False
    log: BinaryIO | None = None

    def ask(self, image: str, photo: "Photo") -> TransferLiteError | None:
        """Write the answer of one photo, or what is wrong with it; returns the latter."""
        try:
            self.tell(image, photo)
        except TransferLiteError as error:
            self.fail(image, error)
            return error
        return None

    def tell(self, image: str, photo: "Photo") -> None:
        """Write the answer of one photo. Raises TransferLiteError, and then has written nothing."""
        from transferlite.inference.prediction import UNKNOWN

        answer = self.predictor(photo, self.top)
        best = ", ".join(f"{label} {score:.3f}" for label, score in answer.top)
        line = f"{image}: " + (f"unknown ({best})" if answer.label == UNKNOWN else best)
        self._write({"image": image, **answer.to_dict()}, line)

    def fail(self, image: str, error: TransferLiteError) -> None:
        """Write why there is no answer."""
        code = getattr(error, "code", type(error).__name__)
        place = "" if error.where else f"{image}: "
        self._write({"image": image, "error": {"code": code, "message": error.message}}, f"error: {place}{error}", True)

    def _write(self, record: dict[str, Any], line: str, failure: bool = False) -> None:
        text = json.dumps(record, ensure_ascii=False)
        if self.log is not None:
            self.log.write(text.encode() + b"\n")  # unbuffered: a line is there whole, or not yet
        if self.as_json:
            click.echo(text)
        else:
            click.echo(line, err=failure)


@contextmanager
def open_output(path: Path | None) -> Iterator[BinaryIO | None]:
    """The file to append to, mended where a power cut left half a line; None for None."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")
        yield file


def already_predicted(path: Path | None) -> set[str]:
    """The images of which a file of JSON lines has an answer or a failure. Half lines are no answers."""
    names = set()
    if path is not None and path.exists():
        with path.open("rb") as file:
            for line in file:
                try:
                    names.add(str(json.loads(line)["image"]))
                except (ValueError, LookupError, TypeError):
                    continue
    return names
