"""Build the Lambda function as a zip; its command is ``transferlite package function``."""

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from transferlite.errors import InputError, TransferLiteError
from transferlite.packaging import device_folder

PLATFORMS = {"x86_64": "manylinux_2_28_x86_64", "arm64": "manylinux_2_28_aarch64"}
"""The platform tag of each architecture of Lambda, whose Python 3.12 and newer have glibc 2.34."""

OLDEST = (3, 12)
"""The oldest Python of Lambda with a glibc that LiteRT supports: older ones have glibc 2.26."""

MOST_BYTES = 250 * 2**20
"""The limit of Lambda for the unpacked zip. Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_WHEN = (1980, 1, 1, 0, 0, 0)  # the same function is the same file, whenever it is made


def write_zip(dest: Path, architecture: str, python: str, extras: Sequence[str] = ()) -> tuple[int, int]:
    """Write the function, its requirements and their bytecode to ``dest``; return the unpacked and the packed size.

    The wheels are those of Lambda's platform. Without its Python version here, the zip has no bytecode.
    ``extras`` adds extras of this package to ``lambda``, such as ``signed``.

    Raises:
        InputError: the architecture or the Python version is unknown to Lambda, or the folder of ``dest`` does not
            exist.
        TransferLiteError: pip failed, or the zip is over the limit of Lambda.
    """
    if architecture not in PLATFORMS:
        raise InputError(f"there is no architecture {architecture!r}", hint=f"name one of {', '.join(PLATFORMS)}")
    if device_folder.version_of(python) < OLDEST:
        raise InputError(f"Lambda's Python {python} has no LiteRT", hint="name 3.12 or a newer one")
    if not dest.absolute().parent.is_dir():
        raise InputError("is no folder", where=str(dest.absolute().parent), hint="create it first")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "function"
        device_folder.build(folder, ("lambda", *extras), PLATFORMS[architecture], python)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        if size > MOST_BYTES:
            raise TransferLiteError(f"has {size:,} bytes unpacked; Lambda takes {MOST_BYTES:,}", where=str(dest))
        _pack(folder, files, dest)
    return size, dest.stat().st_size


def _pack(folder: Path, files: list[Path], dest: Path) -> None:
    aside = dest.with_name(f".{dest.name}.part")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _WHEN)
                entry.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16  # Lambda runs as another user
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        aside.replace(dest)
    finally:
        aside.unlink(missing_ok=True)
