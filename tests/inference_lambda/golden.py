"""The events of ``events/``, each as its source sends it for one photo whose name is awkward."""

import json
from pathlib import Path
from typing import Any

BUCKET = "holiday-photos"
KEY = "in/ein Hund+100% 猫 é.jpg"

_FOLDER = Path(__file__).parent / "events"
NAMES = sorted(path.stem for path in _FOLDER.glob("*.json"))


def golden(name: str) -> Any:
    """The event ``events/<name>.json``."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
