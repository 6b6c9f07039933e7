"""AWS list prices of one region, from ``prices.json``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def price_table() -> dict[str, Any]:
    """Read ``prices.json``: list prices in USD with their region, date and source."""
    table: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return table


def fargate_hour(prices: Mapping[str, Any], architecture: str, vcpu: float, gib: float) -> float:
    """Price of a Fargate task in USD per hour."""
    price = prices["fargate_hour"][architecture]
    return float(vcpu * price["vcpu"] + gib * price["gib"])
