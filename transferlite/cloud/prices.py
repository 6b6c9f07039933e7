"""List prices of AWS, from ``prices.json``: one region, with date and source."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def price_table() -> dict[str, Any]:
    """``prices.json``: list prices of one region, with their date and source."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return table


def fargate_hour(prices: Mapping[str, Any], architecture: str, vcpu: float, gib: float) -> float:
    """USD an hour of a Fargate task."""
    price = prices["fargate_hour"][architecture]
    return float(vcpu * price["vcpu"] + gib * price["gib"])
