"""Make ``export/tflite/op_versions.json``: what each runtime loads, and the oldest release that TensorFlow names.

A runtime looks for every operation that a file lists, used or not: a small classifier that lists one more operation, in
one version, shows whether the runtime has it. The oldest releases are asked of TensorFlow's own function
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
from benchmarks.runtimes.web_page import WebPage, opened
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
"""By profile: the runtime's name for ``op_versions_side``, and what pip installs, if it is not here."""
LITERT_JS = "litertjs-2.5"
MOST = 20
"""No operation has so many versions."""

_NOT_OPERATIONS = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}


def operations() -> dict[str, int]:
    """The number of each operation of the schema."""
    found = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    return {name: value for name, value in found.items() if name not in _NOT_OPERATIONS}


def oldest_releases() -> dict[str, dict[str, str]]:
    """By operation and version, the oldest TensorFlow Lite that has it."""
    import tensorflow as tf

    library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
    find = library["_ZN6tflite30FindMinimumRuntimeVersionForOpB5cxx11ENS_15BuiltinOperatorEi"]
    find.argtypes, find.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int], ctypes.c_void_p

    def ask(number: int, version: int) -> str:
        text = (ctypes.c_uint64 * 4)()  # a std::string: where its characters are, how many they are, and 16 bytes
        find(text, number, version)
        return ctypes.string_at(text[0], text[1]).decode()

    asked = {name: {str(one): ask(number, one) for one in range(1, MOST)} for name, number in operations().items()}
    known = {name: {version: one for version, one in each.items() if one} for name, each in asked.items()}
    return {name: each for name, each in sorted(known.items()) if each}


def write_probes(folder: Path) -> None:
    """A file ``NAME.VERSION`` for each version of each operation, and ``none`` with only what all of them have."""
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
        for version in range(1, MOST):
            model = read_tflite(content)
            code = operator_code(name)
            code.version = version
            model.operatorCodes.append(code)
            (folder / f"{name}.{version}").write_bytes(write_tflite(model) + archive)


def ranges(loaded: Iterable[str]) -> dict[str, list[int]]:
    """The first and the last version of each operation, of the names of the files that were loaded."""
    found: dict[str, list[int]] = {}
    for name in sorted(set(loaded) - {"none"}):
        operation, _, version = name.rpartition(".")
        found.setdefault(operation, []).append(int(version))
    gaps = [name for name, each in found.items() if max(each) - min(each) + 1 != len(each)]
    if gaps:
        raise click.ClickException(f"some versions between others are missing: {gaps}")
    return {name: [min(each), max(each)] for name, each in found.items()}


def probe(name: str, folder: Path, probes: Path) -> dict[str, Any]:
    """A runtime's profile."""
    runtime, *requirements = RUNTIMES[name]
    python = environment(folder / name, *requirements)
    done = subprocess.run([str(python), side, runtime, str(probes)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name}: {done.stderr[-1000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return _profile(said["runtime"], said["loaded"])


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
    """Which versions of some operations load. Some hundred files that do not are too many for one page: it stands."""
    found = {}
    for number, name in enumerate(names):
        if number % 10 == 0:
            page.page.goto(page.url)
        found[name] = page.page.evaluate(_LOAD, [name, list(versions)])
    return found


def probe_browser(folder: Path, probes: Path) -> dict[str, Any]:
    """LiteRT.js's profile."""
    copy_runtime(folder / "litert")
    (folder / "probes").symlink_to(probes)
    (folder / "index.html").write_text('<meta charset="utf-8"><body><input id="file"></body>')
    with opened(folder) as page:
        asked = [name for name in operations() if not name.startswith("STABLEHLO_")]  # some of those never end there
        found = _loaded(page, asked, range(1, 6))
        longer = [name for name, versions in found.items() if 5 in versions]
        found |= {name: found[name] + more for name, more in _loaded(page, longer, range(6, MOST)).items()}
    loaded = [f"{name}.{version}" for name, versions in found.items() for version in versions]
    return _profile("@litertjs/core 2.5.3", ["none", *loaded])


def make(names: Iterable[str]) -> None:
    """Make these profiles of the table anew, each written as soon as it is there."""
    found = json.loads(TABLE.read_text()) if TABLE.exists() else {"profiles": {}}
    found |= {"source": "python -m benchmarks.runtimes.op_versions", "oldest": oldest_releases()}
    with tempfile.TemporaryDirectory() as folder:
        probes, site = Path(folder) / "probes", Path(folder) / "site"
        probes.mkdir()
        site.mkdir()
        write_probes(probes)
        for name in names:
            profile = probe_browser(site, probes) if name == LITERT_JS else probe(name, Path(folder), probes)
            found["profiles"][name] = profile
            TABLE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
            click.echo(f"{name}: {len(profile['operations'])} operations")


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*RUNTIMES, LITERT_JS]))
def main(only: tuple[str, ...]) -> None:
    """Make the table anew, or only some profiles of it."""
    make(only or (*RUNTIMES, LITERT_JS))


if __name__ == "__main__":
    main()
