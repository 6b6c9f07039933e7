"""Start child processes of Python that import nothing from the current folder.

``python -m`` and ``python -c`` put the current folder first on ``sys.path``: a file ``json.py`` that lies among a
user's photos would run.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGES = str(Path(__file__).parents[1])
_RUN_MODULE = (
    "import sys; paths, module = sys.argv[1:3]; sys.path[:] = paths.split('\\n'); del sys.argv[1:3];"
    " import runpy; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module in isolated mode (``-I``), with the packages of this process."""
    current = Path.cwd()
    paths = [path for path in sys.path if path == _PACKAGES or (Path(path).is_absolute() and Path(path) != current)]
    joined = "\n".join(dict.fromkeys([*paths, _PACKAGES]))
    return [sys.executable, "-I", "-c", _RUN_MODULE, joined, module, *map(str, arguments)]


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the current folder off ``sys.path`` of processes that ``multiprocessing`` starts in the context."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
