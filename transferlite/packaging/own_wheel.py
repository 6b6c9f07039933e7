"""Pack the TransferLite that is imported here as a wheel, so that a checkout and an install are built in one way."""

import base64
import hashlib
import operator
import re
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from transferlite.cloud.template_files import shipped
from transferlite.errors import InputError

ROOT = Path(__file__).parents[2]
"""The folder that our packages are imported from: a checkout, or site-packages."""

_WHEEL = "Wheel-Version: 1.0\nGenerator: transferlite\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


def installed() -> Distribution:
    """Return the metadata of the installed TransferLite. Raises InputError when it is not installed."""
    try:
        return distribution("transferlite")
    except PackageNotFoundError:
        hint = "install it with pip; in a checkout: pip install -e ."
        raise InputError("TransferLite is imported, but not installed", where=str(ROOT), hint=hint) from None


def write_wheel(folder: Path, packages: Sequence[str], python: str | None) -> Path:
    """Write a wheel of some of our packages into ``folder``; returns its path.

    Args:
        folder: an existing folder.
        packages: top-level packages, for example ``transferlite``.
        python: the version that the wheel will be installed for by another Python, ``3.12``; None if by itself.

    Raises:
        InputError: TransferLite is not installed, or a package is not there.
    """
    found = installed()
    info = f"transferlite-{found.version}.dist-info"
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for name in packages for path in _files(ROOT / name)}
    files["transferlite/cloud/template.yaml"] = shipped().read_bytes()  # at the root of a checkout
    metadata = found.read_text("METADATA") or ""
    files[f"{info}/METADATA"] = (for_python(metadata, python) if python else metadata).encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    lines = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    wheel = folder / f"transferlite-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return wheel


def _files(package: Path) -> Iterator[Path]:
    """Yield the source and data files of a package, without bytecode."""
    if not (package / "__init__.py").is_file():
        hint = "install the whole wheel of TransferLite"
        raise InputError(f"there is no package {package.name}", where=str(package.parent), hint=hint)
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def for_python(metadata: str, python: str) -> str:
    """Replace each test of ``python_version`` in the metadata by its result for another Python.

    pip evaluates such a test for the Python that runs pip, even with ``--python-version``.
    """

    def result(test: re.Match[str]) -> str:
        holds = _COMPARE[test[1]](_numbers(python), _numbers(test[2]))
        return "os_name != ''" if holds else "os_name == ''"

    header, blank, description = metadata.partition("\n\n")
    return re.sub(r"python_version\s*(<=|>=|==|!=|<|>)\s*['\"]([\d.]+)['\"]", result, header) + blank + description


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
