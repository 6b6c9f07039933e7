"""Golden events: the files of ``events/``, each as its source sends it for a photo with an awkward name."""

import json
from pathlib import Path
from typing import Any

BUCKET = "holiday-photos"
KEY = "in/ein Hund+100% 猫 é.jpg"

_FOLDER = Path(__file__).parent / "events"
NAMES = sorted(path.stem for path in _FOLDER.glob("*.json"))


def golden(name: str) -> Any:
    """Return the event ``events/<name>.json``."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
