"""Which of a folder's TFLite files a runtime loads: run by its path in that runtime's environment.

``python op_versions_side.py RUNTIME FOLDER``; the last line is the names of the files, as JSON.
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
    """Whether a runtime has all operations of a file: it looks for them when it is given it, used or not."""
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
    """Try each file."""
    runtime, folder = sys.argv[1:]
    found = [path.name for path in sorted(Path(folder).iterdir()) if loads(runtime, path)]
    print(json.dumps({"runtime": f"{runtime} {version(runtime)}", "loaded": found}))


if __name__ == "__main__":
    main()
