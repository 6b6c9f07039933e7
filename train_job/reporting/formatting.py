"""Format numbers for the report and the model card: percentages, sizes, times and dollars."""

import math
from collections.abc import Callable
from typing import Any

MISSING = "—"
_SPACE = "\u00a0"
"""No-break space between a number and its unit."""


def percent(value: float | None, digits: int = 1) -> str:
    """``0.912`` -> ``91.2%``; a dash for None or NaN."""
    return MISSING if _is_missing(value) else f"{100 * float(value or 0):.{digits}f}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """``0.91234`` -> ``0.912``; a dash for None or NaN."""
    return MISSING if _is_missing(value) else f"{float(value or 0):.{digits}f}"


def whole(value: int | None) -> str:
    """``10000`` -> ``10,000``; a dash for None."""
    return MISSING if _is_missing(value) else f"{int(value or 0):,}"


def size(count: int) -> str:
    """Format bytes as ``13.4 MiB`` or ``512 KiB``."""
    return f"{count / 2**20:.1f}{_SPACE}MiB" if count >= 2**20 else f"{math.ceil(count / 1024)}{_SPACE}KiB"


def milliseconds(value: float | None) -> str:
    """``6.71`` -> ``6.7 ms``; a dash for None."""
    return MISSING if _is_missing(value) else f"{float(value or 0):.{0 if float(value or 0) >= 100 else 1}f}{_SPACE}ms"


def duration(seconds: float) -> str:
    """Format seconds as ``0.34 s``, ``12.5 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    return text.replace(" ", _SPACE)


def dollars(usd: float) -> str:
    """Format USD with cents, or below one dollar with two significant digits."""
    if usd == 0 or usd >= 1:
        return f"${usd:,.2f}"
    digits = 1 - math.floor(math.log10(usd))
    return f"${usd:.{min(max(digits, 2), 8)}f}"


def hourly(usd: float) -> str:
    """Format an hourly price with up to four decimals: ``$0.1785``, ``$0.145``."""
    return f"${usd:.4f}".rstrip("0").rstrip(".")


def interval(bounds: Any) -> str:
    """``(0.876, 0.941)`` -> ``87.6 to 94.1%``; empty for None."""
    if not bounds:
        return ""
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}%"


def share(part: int | None, total: int | None) -> str:
    """``part / total`` as a percentage; a dash if the total is 0 or missing."""
    return percent(part / total) if part is not None and total else MISSING


def _is_missing(value: float | None) -> bool:
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
