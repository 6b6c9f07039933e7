"""Try to load each TFLite file of a folder in a runtime. Run as a script in that runtime's environment.

``python op_versions_side.py RUNTIME FOLDER`` prints the names of the files that load, as JSON in the last line.
"""

import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

INTERPRETERS = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}


def loads(runtime: str, path: Path) -> bool:
    """Whether a runtime has all operations of a file; it looks them up when it loads the file, used or not."""
    try:
        if runtime == "mediapipe":
            from mediapipe.tasks.python import BaseOptions, vision

            base = BaseOptions(model_asset_path=str(path))
            vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=base)).close()
        else:
            importlib.import_module(INTERPRETERS[runtime]).Interpreter(model_path=str(path))
    except (ValueError, RuntimeError) as error:
        if "op" not in str(error).lower():
            raise
        return False
    return True


def main() -> None:
    """Try to load each file."""
    runtime, folder = sys.argv[1:]
    loaded = [path.name for path in sorted(Path(folder).iterdir()) if loads(runtime, path)]
    print(json.dumps({"runtime": f"{runtime} {version(runtime)}", "loaded": loaded}))


if __name__ == "__main__":
    main()
