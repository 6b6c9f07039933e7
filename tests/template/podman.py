"""Images and containers on a plain Debian machine: podman with storage of its own, and a base made by debootstrap.

Nothing is asked of a container registry. pip inside a build is set up as it is on this machine.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.template.stack import ROOT

TOOLS = ("podman", "runc", "debootstrap", "catatonit")
"""Commands, which are Debian's packages of the same names; the last is podman's ``--init``."""

SUITE = "trixie"
"""Debian 13, which has Python 3.13."""

_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


class UnavailableError(Exception):
    """Containers cannot be run here, and why."""


def install_tools() -> None:
    """Install what is missing, as root on Debian. Raises UnavailableError where that cannot be."""
    if sys.platform != "linux":
        raise UnavailableError("containers need Linux")
    missing = [command for command in TOOLS if not shutil.which(command)]
    if os.geteuid():
        raise UnavailableError("containers are made by debootstrap and overlay mounts, which take root")
    if missing and not shutil.which("apt-get"):
        raise UnavailableError(f"{', '.join(missing)} are missing, and this is no Debian to install them on")
    if missing:
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", "--quiet", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")


class Podman:
    """One store of images and what runs of them. Everything lies below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--runtime", "runc"]
        self.command = ["podman", *store, "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One podman command. Raises CalledProcessError with what it wrote."""
        done = subprocess.run([*self.command, *words], capture_output=True, text=True, check=False, cwd=ROOT)
        if check and done.returncode:
            raise UnavailableError(f"podman {' '.join(words)}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        return done

    def has(self, image: str) -> bool:
        return self.run("image", "exists", image, check=False).returncode == 0

    def make_base(self, name: str) -> None:
        """The image ``name``: Debian's Python and nothing else."""
        root = self.folder / "base"
        if not root.exists():
            aside = self.folder / "base.part"
            words = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(aside)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
            shutil.rmtree(aside / "var" / "cache" / "apt", ignore_errors=True)
            shutil.rmtree(aside / "var" / "lib" / "apt" / "lists", ignore_errors=True)
            aside.rename(root)
        with subprocess.Popen(["tar", "--create", "--directory", str(root), "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.command, "import", "--quiet", "-", name], stdin=tar.stdout, check=True)

    def build(self, name: str, dockerfile: Path, arguments: Mapping[str, str], context: Path = ROOT) -> None:
        """Build an image; pip finds packages as it does here."""
        words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        words += [*_network(), *self._pip_settings(), "--tag", name, "--file", str(dockerfile)]
        self.run("build", *words, str(context))

    def size(self, image: str) -> int:
        """Bytes of all layers."""
        return int(self.run("image", "inspect", "--format", "{{.Size}}", image).stdout)

    def start(self, image: str, *options: str) -> list[str]:
        """The command that runs a container on this machine's loopback and waits for it."""
        return [*self.command, "run", "--rm", *_network(), *options, image]

    def _pip_settings(self) -> Iterator[str]:
        """pip's configuration of this machine, and the files and folders that it names, as volumes."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        )
        found = dict(re.findall(r"^\S+?\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
        settings = self.folder / "pip.conf"
        settings.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in found.items()))
        words = [word for value in found.values() for word in value.split()]
        places = {Path(word) for word in words if word.startswith("/")}
        places |= {Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")}
        for place in sorted(place for place in places if place.exists() and place != Path("/")):
            yield from ("--volume", f"{place}:{place}:ro")  # of an index the folder above: its files lie beside it


def _network() -> list[str]:
    """This machine's own network, so that loopback is the same."""
    return ["--network", "host", *limits()]


def limits() -> list[str]:
    """No more open files and processes than this process may have, which it may not pass on more than."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    most = {name: 4096 if limit == resource.RLIM_INFINITY else min(limit, 4096) for name, limit in hard.items()}
    return [f"--ulimit={name}={limit}:{limit}" for name, limit in most.items()]
