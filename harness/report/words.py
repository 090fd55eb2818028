"""How figures and outcomes are written in every kind of report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

MARKS = {"pass": "✓", "fail": "✗", "unknown": "?"}
HEADLINES = {"pass": "PASS", "fail": "FAIL", "unknown": "UNKNOWN"}
#: The worst first: what a reader must not miss.
WORST_FIRST = ("fail", "unknown", "pass")

#: Units in which the judge gives a share of one, and what is said after the per cent.
_SHARES = {
    "ratio": "",
    "of planned": " of planned",
    "of sends late": " of sends late",
    "of uploads lost or altered": " of uploads lost or altered",
    "failing share": " failing",
    "of the clients' count": " of the clients' count",
}
_EPOCH = "s since epoch"
_DIGITS = {"%": 3, "s": 2, "ms": 1, "req/s": 1, "/s": 1}


def outcome_of(value: object) -> str:
    """``pass``, ``fail`` or ``unknown``: anything else is unknown, never a pass."""
    return str(value) if value in MARKS else "unknown"


def measured(value: Mapping[str, Any] | None, start_t: float | None = None) -> str:
    """``99.95 %``, or with its interval ``12.1 s (11.6–12.4)`` where that says more.

    ``start_t`` (wall seconds) is where the run's own clock starts; instants are then written
    on it.
    """
    if value is None:
        return "–"
    unit = str(value.get("unit") or "")
    if unit == _EPOCH:
        return _instant(value, start_t)
    best, low, high, unit = _shown_in(value.get("value"), value.get("low"), value.get("high"), unit)
    space = "" if unit.startswith("/") else " "
    if best is None:
        return _bounds(low, high, unit)
    text = f"{number(best, unit)}{space}{unit}".strip()
    if low is None and high is None:
        return text
    shown = (number(low, unit), number(high, unit))
    return text if shown[0] == shown[1] else f"{text} ({shown[0]}–{shown[1]})"


def _shown_in(
    best: float | None, low: float | None, high: float | None, unit: str
) -> tuple[float | None, float | None, float | None, str]:
    """The figures in the unit a reader expects: per cent for shares, ms below a second."""
    factor, shown = 1.0, unit
    if unit in _SHARES:
        factor, shown = 100.0, f"%{_SHARES[unit]}"
    elif unit == "s" and best is not None and 0 < best < 1:
        factor, shown = 1000.0, "ms"
    figures = [None if f is None else f * factor for f in (best, low, high)]
    return figures[0], figures[1], figures[2], shown


def _bounds(low: float | None, high: float | None, unit: str) -> str:
    if low is None and high is None:
        return "–"
    if high is None:
        return f"more than {number(low, unit)} {unit}".strip()
    if low is None:
        return f"at most {number(high, unit)} {unit}".strip()
    return f"between {number(low, unit)} and {number(high, unit)} {unit}".strip()


def _instant(value: Mapping[str, Any], start_t: float | None) -> str:
    t = value.get("value")
    if t is None:
        return "–"
    if start_t is None:
        return f"{utc(t)[11:]}"
    low, high = value.get("low"), value.get("high")
    within = high - low if low is not None and high is not None else 0.0
    return f"at {clock(t - start_t)}" + (f" (within {seconds(within)})" if within >= 0.05 else "")


def number(value: float | None, unit: str = "") -> str:
    """A figure with as many digits as its unit deserves; ``∞`` where it is unbounded."""
    if value is None:
        return "∞"
    digits = 3 if unit.startswith("%") else _DIGITS.get(unit, 2)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float | None) -> str:
    """``99.95 %`` of a share of one; cut, not rounded, so that 100 % means all.

    Nor does ``0 %`` mean a little.
    """
    if share is None:
        return "–"
    if 0 < share < 1e-5:
        return "< 0.001 %"
    return f"{number(int(share * 1e5 + 1e-6) / 1e3, '%')} %"


def seconds(value: float | None) -> str:
    """``4.2 s``; ``–`` when there is none."""
    return "–" if value is None else f"{value:.1f} s"


def millis(value_s: float | None) -> str:
    """Seconds as ``38 ms`` or, from a second on, ``1.25 s``."""
    if value_s is None:
        return "–"
    return f"{value_s * 1e3:.0f} ms" if value_s < 1 else f"{value_s:.2f} s"


def clock(offset_s: float) -> str:
    """``m:ss.d`` since the start of the run."""
    sign = "−" if offset_s <= -0.05 else ""
    tenths = round(abs(offset_s) * 10)
    return f"{sign}{tenths // 600}:{tenths % 600 / 10:04.1f}"


def duration(value_s: float) -> str:
    """``3 min 40 s``, ``1 h 02 min``."""
    minutes, rest = divmod(round(value_s), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def utc(t: float) -> str:
    """``2026-01-31 14:03:22 UTC`` of wall seconds."""
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def phase(name: str | None) -> str:
    """A phase as a title: ``Fault: zone``, ``Baseline``, ``Whole run``."""
    if not name or name in ("all", "run"):
        return "Whole run"
    kind, _, fault = name.partition(":")
    return kind.capitalize() + (f": {fault}" if fault else "")


def by_phase(
    findings: Iterable[Mapping[str, Any]], order: Iterable[str]
) -> dict[str, list[Mapping[str, Any]]]:
    """Findings grouped by phase: the whole run first, then ``order``, then any other."""
    grouped: dict[str, list[Mapping[str, Any]]] = {"all": []}
    for name in order:
        grouped[name] = []
    for finding in findings:
        grouped.setdefault(str(finding.get("phase") or "all"), []).append(finding)
    return {name: found for name, found in grouped.items() if found}


def worst(findings: Iterable[Mapping[str, Any]]) -> str:
    """The worst outcome among findings."""
    found = {outcome_of(f.get("outcome")) for f in findings}
    return next((o for o in WORST_FIRST if o in found), "unknown")
