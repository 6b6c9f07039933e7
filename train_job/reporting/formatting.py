"""Figures as a reader wants them: percentages, bytes, times and dollars, in as many digits as mean something."""

import math
from collections.abc import Callable
from typing import Any

MISSING = "—"
_SPACE = "\u00a0"
"""Between a figure and its unit, so that no line ends there."""


def percent(value: float | None, digits: int = 1) -> str:
    """``0.912`` -> ``91.2 %``; a dash where there is no figure."""
    return MISSING if _absent(value) else f"{100 * float(value or 0):.{digits}f}{_SPACE}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """``0.91234`` -> ``0.912``; a dash where there is no figure."""
    return MISSING if _absent(value) else f"{float(value or 0):.{digits}f}"


def whole(value: int | None) -> str:
    """``10000`` -> ``10,000``."""
    return MISSING if _absent(value) else f"{int(value or 0):,}"


def size(count: int) -> str:
    """Bytes as ``13.4 MiB`` or ``512 KiB``."""
    return f"{count / 2**20:.1f}{_SPACE}MiB" if count >= 2**20 else f"{math.ceil(count / 1024)}{_SPACE}KiB"


def milliseconds(value: float | None) -> str:
    """``6.71`` -> ``6.7 ms``; a dash where it was not measured."""
    return MISSING if _absent(value) else f"{float(value or 0):.{0 if float(value or 0) >= 100 else 1}f}{_SPACE}ms"


def duration(seconds: float) -> str:
    """``0.34 s``, ``12.5 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    words = f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    return words.replace(" ", _SPACE)


def dollars(usd: float) -> str:
    """USD in cents, or in two significant digits where that is less than a dollar."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    digits = 1 - math.floor(math.log10(usd))
    return f"${usd:.{min(max(digits, 2), 8)}f}"


def hourly(usd: float) -> str:
    """A list price as it is listed: ``$0.1785``, ``$0.145``."""
    return f"${usd:.4f}".rstrip("0").rstrip(".")


def interval(bounds: Any) -> str:
    """``(0.876, 0.941)`` -> ``87.6 to 94.1 %``; empty where there is none."""
    if not bounds:
        return ""
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}{_SPACE}%"


def share(part: int | None, total: int | None) -> str:
    """A part of a whole as a percentage; a dash of nothing."""
    return percent(part / total) if part is not None and total else MISSING


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


FILTERS: dict[str, Callable[..., str]] = {
    "percent": percent,
    "decimal": decimal,
    "whole": whole,
    "size": size,
    "milliseconds": milliseconds,
    "duration": duration,
    "dollars": dollars,
    "hourly": hourly,
    "interval": interval,
}
