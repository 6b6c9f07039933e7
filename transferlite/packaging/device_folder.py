"""Build a folder with only what a device or a function imports: a tenth of the files that pip installs, compiled."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from platform import machine

from transferlite.errors import EDGE_LEGACY_HINT, InputError, TransferLiteError
from transferlite.packaging.own_wheel import installed, write_wheel

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
THIS_PLATFORM = f"manylinux_2_28_{machine()}"

IMPORTED: Mapping[str, Sequence[str]] = {
    "ai_edge_litert": (
        "__init__.py",
        "interpreter.py",
        "metrics_*.py",
        "_pywrap_litert_interpreter_wrapper.so",
        "libpywrap_litert_common.so",
    ),
    "botocore/data": ("*.json", "*.json.gz", "s3", "sts", "sso", "sso-oidc", "kms", "events"),
    "boto3/data": ("s3",),
}
"""The entries to keep of each folder. The others are for other uses and other services."""

NOT_IMPORTED: Sequence[str] = (
    *("**/tests", "**/*.pyi", "**/*.pxd", "**/*.h", "**/*.a", "bin", "boto3/examples"),
    *("numpy/f2py", "PIL/_imagingtk.*", "PIL/_imagingft.*", "pillow.libs/libfreetype-*", "pillow.libs/libharfbuzz-*"),
    *("transferlite/cloud/template.yaml", "inference_lambda/Dockerfile"),
    *("transferlite-*.dist-info/RECORD", "transferlite-*.dist-info/direct_url.json"),
)
"""Files that predicting does not need: tests, stubs, headers, the fonts of Pillow, and paths of the build."""

FUNCTION_EXTRAS = frozenset({"lambda", "serve"})
"""The extras that need the package ``inference_lambda`` besides ``transferlite``."""

NOT_NEEDED: Mapping[str, frozenset[str]] = {
    "ai-edge-litert": frozenset(
        {"backports-strenum", "flatbuffers", "ml-dtypes", "protobuf", "tqdm", "typing-extensions"}
    )
}
"""Requirements of a package that predicting does not import. They are removed unless another package needs them."""


def build(
    dest: Path, extras: Sequence[str] = ("edge",), platform: str = THIS_PLATFORM, python: str = THIS_PYTHON
) -> dict[str, int]:
    """Create a folder for ``PYTHONPATH``, an image or a zip. It appears only when it is complete.

    Args:
        dest: the folder, which must not exist.
        extras: extras of this package, for example ``edge`` and ``s3``, or ``lambda``.
        platform: the platform tag of the wheels, with the newest glibc that works: ``manylinux_2_28_aarch64``.
        python: the Python version there, ``3.12``. Without the same version here, the folder has no bytecode.

    Returns:
        The size of each entry in bytes, the largest first.

    Raises:
        InputError: ``dest`` exists, there is no such extra, platform or Python version, or no pip here.
        TransferLiteError: pip failed, for example without network or without a matching wheel. The message holds its
            last line.
    """
    if dest.exists():
        raise InputError("exists already", where=str(dest), hint="remove it or name another folder")
    _check(extras, python)
    interpreter = interpreter_of(python)
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".device-", dir=dest.parent) as temporary:
        folder = Path(temporary) / "packages"
        _install(folder, extras, _tags(platform), python)
        _drop_packages(folder)
        _drop_files(folder)
        if interpreter:
            words = ["-m", "compileall", "-q", "-s", folder, "--invalidation-mode", "unchecked-hash", folder]
            _run([interpreter, "-I", *words])
        folder.rename(dest)
    return dict(sorted(_sizes(dest), key=lambda item: -item[1]))


def _check(extras: Sequence[str], python: str) -> None:
    """Refuse what pip would install without an error or explain badly."""
    known = installed().metadata.get_all("Provides-Extra") or []
    if unknown := set(extras) - set(known):
        raise InputError(f"there is no extra {', '.join(sorted(unknown))}", hint=f"the extras are {', '.join(known)}")
    version = version_of(python)
    if python not in (supported := _supported_pythons()):
        raise InputError(f"TransferLite does not run on Python {python}", hint=f"name one of {', '.join(supported)}")
    if version >= (3, 12) and "edge-legacy" in extras:
        raise InputError(EDGE_LEGACY_HINT, hint="name --python 3.11, or the extra edge")
    if importlib.util.find_spec("pip") is None:
        raise InputError("pip is not installed", where=sys.executable, hint=f"{sys.executable} -m ensurepip")


def _supported_pythons() -> list[str]:
    """Return the Python versions that the metadata of this package names: ``3.12``."""
    classifiers = installed().metadata.get_all("Classifier") or []
    found = (re.fullmatch(r"Programming Language :: Python :: (\d+\.\d+)", line) for line in classifiers)
    return [match[1] for match in found if match]


def version_of(python: str) -> tuple[int, int]:
    """``3.12`` as numbers. Raises InputError."""
    found = re.fullmatch(r"(\d+)\.(\d+)", python)
    if not found:
        raise InputError(f"{python!r} is no version of Python", hint="write it as 3.12")
    return int(found[1]), int(found[2])


def interpreter_of(python: str) -> str | None:
    """Return the path of an interpreter of that version that starts: version managers leave names that do not."""
    found = sys.executable if python == THIS_PYTHON else shutil.which(f"python{python}")
    if found and subprocess.run([found, "-I", "-c", ""], capture_output=True, check=False).returncode:
        return None
    return found


def bytecode_note(python: str) -> str:
    """Say that there is no bytecode, and what that costs; empty if there is an interpreter for it."""
    if interpreter_of(python):
        return ""
    return (
        f"no bytecode, as there is no python{python} here: each cold start compiles the sources, 0.3 s of a CPU; "
        f"put python{python} on PATH to avoid that"
    )


def _tags(platform: str) -> list[str]:
    """Return the platform tags of the wheels that run on ``platform``, those of an older glibc included."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if not found:
        raise InputError(f"{platform!r} is no platform", hint="manylinux_2_28_x86_64 and manylinux_2_28_aarch64 are")
    glibc, processor = int(found[1]), found[2]
    return [f"manylinux_2_{minor}_{processor}" for minor in range(glibc, 16, -1)] + [f"manylinux2014_{processor}"]


def _install(folder: Path, extras: Sequence[str], tags: Sequence[str], python: str) -> None:
    packages = ["transferlite", *(["inference_lambda"] if FUNCTION_EXTRAS & set(extras) else [])]
    where = [word for tag in tags for word in ("--platform", tag)]
    words = ["--target", folder, *where, "--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    pip = [sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
    with tempfile.TemporaryDirectory() as temporary:
        wheel = write_wheel(Path(temporary), packages, python)
        _run([*pip, *words, f"{wheel}[{','.join(extras)}]"])


def _run(command: Sequence[object]) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
        raise TransferLiteError(f"{command[0]} {command[2]} {command[3]} failed: {said[-1]}")


def _drop_packages(folder: Path) -> None:
    """Remove the packages that only :data:`NOT_NEEDED` names."""
    installed = {_normal(found.name): found for found in distributions(path=[str(folder)])}
    unneeded = {name for owner in NOT_NEEDED if owner in installed for name in NOT_NEEDED[owner]}
    for name in unneeded & set(installed):
        owners = {owner for owner, found in installed.items() if name in _requirements(found)}
        if all(name in NOT_NEEDED.get(owner, ()) or owner in unneeded for owner in owners):
            for path in installed[name].files or ():
                (folder / path).unlink(missing_ok=True)


def _requirements(package: Distribution) -> set[str]:
    """Return the names of its requirements, without those of extras."""
    lines = (line for line in package.requires or () if "extra ==" not in line)
    return {_normal(match[0]) for line in lines if (match := re.match(r"[\w.-]+", line))}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _drop_files(folder: Path) -> None:
    """Remove the files that predicting does not import, then the empty folders."""
    unwanted = [path for pattern in NOT_IMPORTED for path in folder.glob(pattern)]
    for name, kept in IMPORTED.items():
        children = (folder / name).iterdir() if (folder / name).is_dir() else ()
        unwanted += [path for path in children if not any(path.match(pattern) for pattern in kept)]
    for path in unwanted:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for entry in folder.iterdir():
        files = entry.rglob("*") if entry.is_dir() else [entry]
        yield entry.name, sum(path.stat().st_size for path in files if path.is_file())
