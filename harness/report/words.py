"""How figures and outcomes are written in every kind of report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARKS = {"pass": "✓", "fail": "✗", "unknown": "?"}
HEADLINES = {"pass": "PASS", "fail": "FAIL", "unknown": "UNKNOWN"}


def measured(value: Mapping[str, Any] | None) -> str:
    """``99.95 %``, or with its interval ``12.1 s (11.6–12.4)`` where that says more."""
    if value is None:
        return "–"
    unit = value["unit"]
    best, low, high = value["value"], value["low"], value["high"]
    if best is None:
        return f"between {number(low, unit)} and {number(high, unit)} {unit}".strip()
    text = f"{number(best, unit)} {unit}".strip()
    shown = (number(low, unit), number(high, unit))
    if low is None or high is None or shown[0] == shown[1]:
        return text
    return f"{text} ({shown[0]}–{shown[1]})"


def number(value: float | None, unit: str = "") -> str:
    """A figure with as many digits as its unit deserves; ``∞`` where it is unbounded."""
    if value is None:
        return "∞"
    digits = {"%": 3, "s": 2, "ms": 1, "req/s": 1}.get(unit, 2)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def clock(seconds: float) -> str:
    """``m:ss`` or ``m:ss.d`` since the start of the run."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def duration(seconds: float) -> str:
    """``3 min 40 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
