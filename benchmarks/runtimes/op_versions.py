"""Make ``export/tflite/op_versions.json``: operator versions that each runtime loads, and their oldest releases.

A runtime looks up every operation that a file lists, used or not. So a small classifier that lists a single further
operation in one version shows whether the runtime has it. The oldest releases come from TensorFlow's own function
``FindMinimumRuntimeVersionForOp``, which its library exports.
Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/tools/versioning/runtime_version.cc
"""

import ctypes
import json
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from ai_edge_litert import schema_py_generated as schema

from benchmarks.runtimes.environments import environment
from benchmarks.runtimes.op_versions_side import __file__ as side
from benchmarks.runtimes.web_page import WebPage, open_page
from export.browser.site import copy_runtime
from export.tflite.metadata import ModelInfo, add_metadata
from export.tflite.op_versions import TABLE
from export.tflite.tflite_file import operator_code, read_tflite, write_tflite
from transferlite.images.input_spec import InputSpec

RUNTIMES = {
    "tflite-runtime-2.14": ("tflite-runtime", "tflite-runtime==2.14.0", "numpy<2"),
    "ai-edge-litert-2.0": ("ai-edge-litert", "ai-edge-litert~=2.0.2"),
    "ai-edge-litert-2.3": ("ai-edge-litert", "ai-edge-litert~=2.3.0"),
    "tensorflow-2.21": ("tensorflow",),
    "mediapipe-1.2": ("mediapipe", "mediapipe~=1.2.0"),
}
"""By profile: the runtime's name for ``op_versions_side``, and the packages that pip installs; none if installed."""
LITERT_JS = "litertjs-2.5"
VERSIONS = range(1, 20)
"""Versions to test; no operation has as many."""

_NOT_OPERATIONS = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}


def operations() -> dict[str, int]:
    """Number of each operation of the schema."""
    numbers = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return {name: value for name, value in numbers.items() if name not in _NOT_OPERATIONS}


def oldest_releases() -> dict[str, dict[str, str]]:
    """Oldest TensorFlow Lite release by operation and version."""
    import tensorflow as tf

    library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
    find = library["_ZN6tflite30FindMinimumRuntimeVersionForOpB5cxx11ENS_15BuiltinOperatorEi"]
    find.argtypes, find.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int], ctypes.c_void_p

    def oldest(number: int, version: int) -> str:
        text = (ctypes.c_uint64 * 4)()  # a std::string: address of its characters, length, 16 bytes
        find(text, number, version)
        return ctypes.string_at(text[0], text[1]).decode()

    releases = {
        name: {str(version): release for version in VERSIONS if (release := oldest(number, version))}
        for name, number in operations().items()
    }
    return {name: by_version for name, by_version in sorted(releases.items()) if by_version}


def write_probes(folder: Path) -> None:
    """Write a file ``NAME.VERSION`` per version of each operation, and ``none`` without a further operation."""
    import tensorflow as tf

    def network(image: Any) -> Any:
        return tf.nn.softmax(tf.reduce_mean(tf.cast(image, tf.float32), axis=(1, 2)))

    graph = tf.function(network).get_concrete_function(tf.TensorSpec((1, 8, 8, 3), tf.uint8))
    plain = folder / "none"
    plain.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
    add_metadata(plain, ModelInfo("probe", "", "", ("a", "b", "c"), InputSpec(8, 8)))
    content = plain.read_bytes()
    archive = content[content.index(b"PK\x03\x04") :]
    for name in operations():
        for version in VERSIONS:
            model = read_tflite(content)
            code = operator_code(name)
            code.version = version
            model.operatorCodes.append(code)
            (folder / f"{name}.{version}").write_bytes(write_tflite(model) + archive)


def ranges(loaded: Iterable[str]) -> dict[str, list[int]]:
    """First and last version of each operation, from the names of the files that were loaded."""
    versions: dict[str, list[int]] = {}
    for name in sorted(set(loaded) - {"none"}):
        operation, _, version = name.rpartition(".")
        versions.setdefault(operation, []).append(int(version))
    gaps = [name for name, known in versions.items() if max(known) - min(known) + 1 != len(known)]
    if gaps:
        raise click.ClickException(f"versions between the first and the last are missing: {gaps}")
    return {name: [min(known), max(known)] for name, known in versions.items()}


def probe(name: str, folder: Path, probes: Path) -> dict[str, Any]:
    """Make a runtime's profile."""
    runtime, *requirements = RUNTIMES[name]
    python = environment(folder / name, *requirements)
    done = subprocess.run([str(python), side, runtime, str(probes)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name}: {done.stderr[-1000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return _profile(result["runtime"], result["loaded"])


def _profile(runtime: str, loaded: list[str]) -> dict[str, Any]:
    if "none" not in loaded:
        raise click.ClickException(f"{runtime} does not load the plain classifier")
    return {"runtime": runtime, "operations": ranges(loaded)}


_LOAD = """async ([operation, versions]) => {
  for (const way of ["log", "info", "warn", "error"]) console[way] = () => {};
  const { getGlobalLiteRtPromise, loadAndCompile, loadLiteRt } = await import("./litert/core.js");
  await (getGlobalLiteRtPromise() ?? loadLiteRt(new URL("litert/wasm/", document.baseURI).href));
  const loaded = [];
  for (const version of versions) {
    const file = new Uint8Array(await (await fetch(`probes/${operation}.${version}`)).arrayBuffer());
    try {
      (await loadAndCompile(file, { accelerator: "wasm" })).delete();
      loaded.push(version);
    } catch (error) {
      if (loaded.length) break;
    }
  }
  return loaded;
}"""


def _loaded(page: WebPage, names: list[str], versions: range) -> dict[str, list[int]]:
    """Versions of each operation that the page loads.

    The page is reloaded every 10 operations, because it hangs after some hundred files that do not load.
    """
    loaded = {}
    for index, name in enumerate(names):
        if index % 10 == 0:
            page.page.goto(page.url)
        loaded[name] = page.page.evaluate(_LOAD, [name, list(versions)])
    return loaded


def probe_browser(folder: Path, probes: Path) -> dict[str, Any]:
    """Make LiteRT.js's profile."""
    copy_runtime(folder / "litert")
    (folder / "probes").symlink_to(probes)
    (folder / "index.html").write_text('<meta charset="utf-8"><body><input id="file"></body>')
    with open_page(folder) as page:
        names = [name for name in operations() if not name.startswith("STABLEHLO_")]  # some of these hang
        loaded = _loaded(page, names, VERSIONS[:5])
        more = _loaded(page, [name for name, versions in loaded.items() if 5 in versions], VERSIONS[5:])
        loaded |= {name: loaded[name] + versions for name, versions in more.items()}
    files = [f"{name}.{version}" for name, versions in loaded.items() for version in versions]
    return _profile("@litertjs/core 2.5.3", ["none", *files])


def make(names: Iterable[str]) -> None:
    """Make these profiles and replace them in the table, one after the other."""
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {"profiles": {}}
    table |= {"source": "python -m benchmarks.runtimes.op_versions", "oldest": oldest_releases()}
    with tempfile.TemporaryDirectory() as folder:
        probes, site = Path(folder) / "probes", Path(folder) / "site"
        probes.mkdir()
        site.mkdir()
        write_probes(probes)
        for name in names:
            profile = probe_browser(site, probes) if name == LITERT_JS else probe(name, Path(folder), probes)
            table["profiles"][name] = profile
            TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
            click.echo(f"{name}: {len(profile['operations'])} operations")


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*RUNTIMES, LITERT_JS]))
def main(only: tuple[str, ...]) -> None:
    """Make the whole table, or only some of its profiles."""
    make(only or (*RUNTIMES, LITERT_JS))


if __name__ == "__main__":
    main()
