"""Strict quantities: a number always comes with its unit.

Each parser takes the text a user wrote and returns seconds, arrivals per second or a
fraction. They raise ValueError with a sentence that says what was expected; the reader
adds the place.
"""

from __future__ import annotations

import re

_NUMBER = r"(\d+(?:\.\d+)?)"
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(_NUMBER + r"(ms|s|m|h|d)")
_RATE = re.compile(_NUMBER + r" ?/ ?(s|m)")
_SPEED = re.compile(_NUMBER + r" ?x")
_PERCENT = re.compile(_NUMBER + r" ?%")


def duration_s(text: object) -> float:
    """``90s``, ``1m30s``, ``250ms``, ``30d`` → seconds, above zero."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit; write a duration such as {_or(text, 's')}")
    if not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a duration; write one such as 90s, 5m, 1m30s or 250ms")
    total = sum(float(n) * _UNITS_S[unit] for n, unit in _PART.findall(text))
    if total <= 0:
        raise ValueError("a duration must be longer than zero")
    return round(total, 6)


def rate_per_s(text: object) -> float:
    """``200/s``, ``600/m`` → arrivals per second, above zero."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit; write a rate such as {_or(text, '/s')}")
    match = _RATE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a rate; write one such as 200/s or 600/m")
    rate = float(match[1]) / _UNITS_S[match[2]]
    if rate <= 0:
        raise ValueError("a rate must be above zero")
    return rate


def speed_of(text: object) -> float:
    """``2x``, ``0.5x`` → how many times as fast, above zero."""
    match = _SPEED.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is not a speed; write one such as 2x or 0.5x")
    return float(match[1])


def fraction(text: object) -> float:
    """``99.9 %`` → 0.999."""
    match = _PERCENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"{text!r} is not a percentage; write one such as 99.9 %")
    percent = float(match[1])
    if percent > 100:
        raise ValueError(f"{text!r} is more than 100 %")
    return round(percent / 100, 9)


def _or(value: object, unit: str) -> str:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 200
    return f"{number}{unit}"
