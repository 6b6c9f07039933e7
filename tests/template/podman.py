"""Images and containers with podman on Debian, in separate storage, with a base image made by debootstrap.

No container registry is used. pip inside a build uses this machine's pip configuration.
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
"""Commands, each from the Debian package of the same name; ``podman run --init`` needs catatonit."""

SUITE = "trixie"
"""Debian 13 with Python 3.13."""

_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


class UnavailableError(Exception):
    """Containers cannot run on this machine."""


def install_tools() -> None:
    """Install missing tools. Raises UnavailableError if this is not Debian or the user is not root."""
    if sys.platform != "linux":
        raise UnavailableError("containers need Linux")
    missing = [command for command in TOOLS if not shutil.which(command)]
    if os.geteuid():
        raise UnavailableError("debootstrap and overlay mounts need root")
    if missing and not shutil.which("apt-get"):
        raise UnavailableError(f"{', '.join(missing)} are missing; install them, or run on Debian")
    if missing:
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", "--quiet", *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"apt-get {arguments[0]} failed: {done.stderr.strip()[-300:]}")


class Podman:
    """Image store and its containers, all below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--runtime", "runc"]
        self.command = ["podman", *store, "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a podman command. Raises UnavailableError with its output if it fails."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
        if check and done.returncode:
            raise UnavailableError(f"podman {' '.join(arguments)}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        return done

    def has(self, image: str) -> bool:
        return self.run("image", "exists", image, check=False).returncode == 0

    def make_base(self, name: str) -> None:
        """Create the image ``name``: Debian with Python only."""
        root = self.folder / "base"
        if not root.exists():
            partial = self.folder / "base.part"
            command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
            shutil.rmtree(partial / "var" / "cache" / "apt", ignore_errors=True)
            shutil.rmtree(partial / "var" / "lib" / "apt" / "lists", ignore_errors=True)
            partial.rename(root)
        with subprocess.Popen(["tar", "--create", "--directory", str(root), "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*self.command, "import", "--quiet", "-", name], stdin=tar.stdout, check=True)

    def build(self, name: str, dockerfile: Path, arguments: Mapping[str, str], context: Path = ROOT) -> None:
        """Build an image with this machine's pip configuration."""
        options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        options += [*_network(), *self._pip_settings(), "--tag", name, "--file", str(dockerfile)]
        self.run("build", *options, str(context))

    def size(self, image: str) -> int:
        """Return the size of all layers in bytes."""
        return int(self.run("image", "inspect", "--format", "{{.Size}}", image).stdout)

    def start(self, image: str, *options: str) -> list[str]:
        """Return the command that runs a container on this machine's network."""
        return [*self.command, "run", "--rm", *_network(), *options, image]

    def _pip_settings(self) -> Iterator[str]:
        """Write this machine's pip configuration to a file, and yield volume options for the paths in it."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        )
        configuration = dict(re.findall(r"^\S+?\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
        settings = self.folder / "pip.conf"
        settings.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in configuration.items()))
        words = [word for value in configuration.values() for word in value.split()]
        paths = {Path(word) for word in words if word.startswith("/")}
        paths |= {Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")}
        for path in sorted(path for path in paths if path.exists() and path != Path("/")):
            yield from (
                "--volume",
                f"{path}:{path}:ro",
            )  # for a file:// index its parent folder, which holds the packages


def _network() -> list[str]:
    """Use the host's network, so that loopback is shared."""
    return ["--network", "host", *limits()]


def limits() -> list[str]:
    """Limit open files and processes to this process's hard limits, which a container may not exceed."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    allowed = {name: 4096 if limit == resource.RLIM_INFINITY else min(limit, 4096) for name, limit in hard.items()}
    return [f"--ulimit={name}={limit}:{limit}" for name, limit in allowed.items()]
