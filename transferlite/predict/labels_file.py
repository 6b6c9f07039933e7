"""Read a text file of labels: one label per line, in the order of a model's outputs."""

import codecs
import re
from pathlib import Path

from transferlite.errors import InputError

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:;=),.](?:\s+|(?=\D))|\s+)(\S.*)")
"""A numbered line: ``0 cat``, ``0: cat``, ``0,cat``, ``0. cat`` or ``0) cat``."""


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Read the labels of a UTF-8 or UTF-16 file; blank lines and spaces around a label are ignored.

    Lines end with LF, CR LF or CR. If all lines are numbered from 0 or 1 in order, the numbers are removed.

    Raises:
        InputError: the file is not text, or its lines are numbered in another order than the model's outputs.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text ({error})", where=str(path)) from error
    # str.splitlines would also split at characters such as U+2028, which a label may contain.
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", text)]
    return _without_numbers([line for line in lines if line], path)


def _without_numbers(lines: list[str], path: Path) -> tuple[str, ...]:
    """Remove the numbers of numbered lines; raise InputError if they are out of order."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(match[1]), match[2]) for match in matches if match]
    if not pairs or len(pairs) < len(lines) or not _are_positions(lines, pairs):
        return tuple(lines)
    first = 0 if any(number == 0 for number, _ in pairs) else 1
    for position, (line, (number, _)) in enumerate(zip(lines, pairs, strict=True)):
        if number != position + first:
            raise InputError(
                f"its lines are numbered, and {line!r} is where number {position + first} is expected",
                where=str(path),
                hint="sort the lines by number, one for each output, or give the labels without numbers",
            )
    return tuple(name for _, name in pairs)


def _are_positions(lines: list[str], pairs: list[tuple[int, str]]) -> bool:
    """Return whether the numbers count outputs; in labels such as ``1 euro`` and ``2 euro`` they do not."""
    numbers = {number for number, _ in pairs}
    if 0 in numbers or all(re.match(r"\d+(\t|\s*[^\s\w])", line) for line in lines):
        return True
    are_all_there = numbers == set(range(1, len(pairs) + 1))
    return are_all_there and len({name for _, name in pairs}) == len(pairs)
