"""The SAM template and the state machine that this package ships, laid out as SAM needs them."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPLATE = "template.yaml"
STATE_MACHINE = "train_job/training.asl.json"
"""The path from the template to the state machine, as its DefinitionUri names it."""

_ROOT = Path(__file__).parents[2]
"""The folder of our packages: a checkout, or site-packages."""


def shipped() -> Path:
    """Path of the template that this package ships."""
    packaged = Path(__file__).with_name(TEMPLATE)
    return packaged if packaged.is_file() else _ROOT / TEMPLATE


@contextmanager
def packaged_template() -> Iterator[Path]:
    """A copy of the template in a temporary folder, with the state machine beside it."""
    with tempfile.TemporaryDirectory(prefix="transferlite-") as temporary:
        template = Path(temporary) / TEMPLATE
        shutil.copyfile(shipped(), template)
        definition = template.parent / STATE_MACHINE
        definition.parent.mkdir()
        shutil.copyfile(_ROOT / STATE_MACHINE, definition)
        yield template
