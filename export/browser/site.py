"""Write a static web page that runs a bundle's model in the browser with LiteRT.js."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transferlite.errors import InputError, UnavailableError
from transferlite.inference.interpreter import TFLiteClassifier
from transferlite.predict.predictor import Predictor
from transferlite.registry.local_bundle import find_bundle, sha256_of
from transferlite.registry.manifest import FAMILIARITY, Manifest

WEB_FILES = Path(__file__).parent / "web"
MODEL, MODEL_JSON = "model.tflite", "model.json"

PACKAGES = {
    "@litertjs/core@2.5.3": "a97660833e9e7e1063c95e12016718881240b14f7438728a2f62785e912d30fd",
    "@litertjs/wasm-utils@2.5.3": "ce2a1f8379c067be49e59752e5a7f40db6be09f6e497f0f11e59f17b515366a7",
}
"""npm packages of the runtime, with the sha256 of their archives."""

_RUNTIME_FILES = (
    ("@litertjs/core/dist/index.js", "core.js"),
    ("@litertjs/core/package.json", "core.json"),
    ("@litertjs/wasm-utils/dist/index.js", "wasm-utils.js"),
    *(
        (f"@litertjs/core/wasm/litert_wasm_{kind}.{extension}", f"wasm/litert_wasm_{kind}.{extension}")
        for kind in ("internal", "compat_internal")  # with relaxed SIMD, and without
        for extension in ("js", "wasm")
    ),
)
"""Files of the packages that the page needs, and their names in its folder ``litert``."""


def write_site(bundle: Path, site: Path, variant: str | None, modules: Path | None = None) -> list[str]:
    """Write the page for a bundle's variant to the folder ``site``; return its files, relative to it.

    Args:
        bundle: the bundle's folder.
        site: the folder to write.
        variant: TFLite variant; if None, float32 or the variant that the bundle holds.
        modules: ``node_modules`` folder with ``@litertjs/core``; if None, npm downloads the packages.

    Raises:
        InputError: npm or the runtime is missing.
        UnavailableError: npm could not download a package, or its hash is wrong.
        NotFoundError, BundleError: see :meth:`transferlite.predict.predictor.Predictor.load`.
    """
    predictor = Predictor.load(bundle, variant)
    folder = find_bundle(bundle)
    site.mkdir(parents=True, exist_ok=True)
    for path in WEB_FILES.iterdir():
        shutil.copyfile(path, site / path.name)
    shutil.copyfile(folder / predictor.manifest.variant(predictor.variant).path, site / MODEL)
    if predictor.manifest.familiarity:
        shutil.copyfile(folder / predictor.manifest.familiarity, site / FAMILIARITY)
    (site / MODEL_JSON).write_text(_model_json(predictor.manifest, TFLiteClassifier(site / MODEL)), encoding="utf-8")
    copy_runtime(site / "litert", modules)
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())


def _model_json(manifest: Manifest, model: TFLiteClassifier) -> str:
    content = {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "labels": manifest.labels,
        "height": manifest.input.height,
        "width": manifest.input.width,
        "resize": manifest.input.resize,
        "threshold": manifest.threshold,
        "scale": model.resolution,
        "zero": model.zero,
        "features": model.features_scale,
        "negative": manifest.negative,
        "familiarity": bool(manifest.familiarity),
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def copy_runtime(folder: Path, modules: Path | None = None) -> None:
    """Copy LiteRT.js to ``folder``: ``core.js`` and ``wasm/``. Arguments and errors as in :func:`write_site`."""
    if modules is None:
        with downloaded_packages() as downloaded:
            copy_runtime(folder, downloaded)
        return
    for source, name in _RUNTIME_FILES:
        if not (modules / source).is_file():
            raise InputError(
                f"has no {source}",
                where=str(modules),
                hint=f"npm install {' '.join(PACKAGES)}, and pass its node_modules to --litert",
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules / source, folder / name)
    core = folder / "core.js"  # a browser cannot resolve package names, only paths
    core.write_text(core.read_text(encoding="utf-8").replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"'), "utf-8")


@contextmanager
def downloaded_packages() -> Iterator[Path]:
    """Download the packages with ``npm pack`` into a temporary ``node_modules`` folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("npm is not installed", hint="install Node.js, or pass a node_modules folder to --litert")
    with tempfile.TemporaryDirectory(prefix="transferlite-") as folder:
        for package, digest in PACKAGES.items():
            command = [npm, "pack", "--silent", "--pack-destination", folder, package]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"npm could not download it ({done.stderr.strip()[-300:]})", where=package)
            archive = Path(folder) / done.stdout.split()[-1]
            if sha256_of(archive) != digest:
                raise UnavailableError("npm downloaded an archive with another sha256 than expected", where=package)
            with tarfile.open(archive) as files:
                files.extractall(Path(folder) / "unpacked", filter="data")
            target = Path(folder) / "node_modules" / package.rpartition("@")[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "unpacked" / "package").rename(target)
        yield Path(folder) / "node_modules"
