"""How a rate over time is written, in a plan and on the command line, and what it becomes.

::

    200/s                                              the same all the time
    ramp 50/s to 500/s over 2m                         evenly from one to the other, which holds
    100/s for 30s, then 300/s for 1m, then 50/s        steps; the last rate holds
    ramp 0/s to 500/s over 1m, then 500/s for 5m, then ramp 500/s to 50/s over 30s
    spike 200/s to 2000/s at 60s for 10s               200/s, but for ten seconds of 2000/s
    diurnal 50/s to 400/s over 24h, peak at 14h        one day as a wave; then as it began

Times run from the start of the traffic, so a peak ``at 14h`` is 14 hours after it.
"""

from __future__ import annotations

import functools
import re

from harness.plan.quantities import duration_s, rate_per_s
from harness.plan.rates import Curve, Piece, constant, diurnal, spike

_ANY_RATE = re.compile(r"(\d+(?:\.\d+)?) ?/ ?([sm])")
_RATE = r"(\d+(?:\.\d+)? ?/ ?[sm])"
_TIME = r"(\d[\d.a-z]*)"
_HOLD = re.compile(rf"{_RATE} for {_TIME}")
_RAMP = re.compile(rf"ramp {_RATE} to {_RATE} over {_TIME}")
_SPIKE = re.compile(rf"spike {_RATE} to {_RATE} at {_TIME} for {_TIME}")
_DIURNAL = re.compile(rf"diurnal {_RATE} to {_RATE} over {_TIME},? peak at {_TIME}")
_THEN = re.compile(r",? then ")
_ZERO = re.compile(r"0+(\.0+)? ?/ ?[sm]")
#: What the words of each shape are, for whoever got them wrong.
_EXAMPLES = {
    "ramp": "ramp 50/s to 500/s over 2m",
    "spike": "spike 200/s to 2000/s at 60s for 10s",
    "diurnal": "diurnal 50/s to 400/s over 24h, peak at 14h",
    "for": "100/s for 30s, then 300/s for 1m",
}


@functools.lru_cache(maxsize=64)
def parse_rate(text: object) -> Curve:
    """The curve that ``text`` says. Raises ValueError: what is wrong, ``; ``, what to write."""
    if not isinstance(text, str):
        return constant(rate_per_s(text))
    words = " ".join(text.split())
    found = _SPIKE.fullmatch(words)
    if found:
        base, top = _rate(found[1]), _rate(found[2])
        return _sending(spike(base, top, duration_s(found[3]), duration_s(found[4])), text)
    found = _DIURNAL.fullmatch(words)
    if found:
        low, high = _rate(found[1]), _rate(found[2])
        return _sending(diurnal(low, high, duration_s(found[3]), duration_s(found[4])), text)
    parts = _THEN.split(words)
    if len(parts) == 1 and not _shaped(words):
        return constant(rate_per_s(text))
    pieces = [_piece(part, text, last=n == len(parts)) for n, part in enumerate(parts, start=1)]
    return _sending(Curve(tuple(pieces)), text)


def scaled_to(text: str, rate: float) -> str:
    """The words of the same shape with its highest rate at ``rate`` per second."""
    factor = rate / parse_rate(text).peak
    return _ANY_RATE.sub(lambda found: f"{float(found[1]) * factor:.12g}/{found[2]}", text)


def is_shape(text: str) -> bool:
    """Whether these words are of a rate that changes over time; they may be wrong ones."""
    return _shaped(" ".join(text.split()))


def _shaped(words: str) -> bool:
    return bool(re.search(r"\b(ramp|spike|diurnal|for|over|then|to)\b", words))


def _piece(part: str, text: str, *, last: bool) -> Piece:
    found = _RAMP.fullmatch(part)
    if found:
        return Piece(duration_s(found[3]), _rate(found[1]), _rate(found[2]))
    found = _HOLD.fullmatch(part)
    if found:
        return Piece(duration_s(found[2]), _rate(found[1]), _rate(found[1]))
    if last and _ANY_RATE.fullmatch(part):
        return Piece(1.0, _rate(part), _rate(part))
    if _ANY_RATE.fullmatch(part):
        raise ValueError(f"{part!r} lasts for ever, so nothing can follow; write {part} for 30s")
    kind = next((word for word in _EXAMPLES if word in part.split()), "for")
    raise ValueError(f"{part!r} is not how a rate is written; write {_EXAMPLES[kind]}")


def _rate(text: str) -> float:
    """A rate that may be zero, as the start of a ramp is."""
    return 0.0 if _ZERO.fullmatch(text) else rate_per_s(text)


def _sending(curve: Curve, text: str) -> Curve:
    """``curve``, unless it sends nothing at all."""
    if curve.peak <= 0:
        raise ValueError(f"{text!r} sends nothing; write a rate above zero")
    return curve
