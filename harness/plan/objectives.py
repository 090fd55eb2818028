"""How an objective is written, and what it becomes.

``KIND: WORDING`` plus ``in:`` (phases) or ``of:`` (faults). Each kind has one wording, a
pattern here, so a plan reads as a sentence and a typing slip cannot weaken it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.plan.model import (
    Agreement,
    Availability,
    BlueGreen,
    Canary,
    Durability,
    ErrorRate,
    Failback,
    Failover,
    Latency,
    Objective,
    Recovery,
    RollingUpdate,
    Throughput,
)
from harness.plan.quantities import duration_s, fraction

_PERCENT = r"(?P<percent>[\d.]+ ?%?)"
_DURATION = r"(?P<duration>\S+)"


@dataclass(frozen=True)
class Wording:
    """One kind of objective: its pattern, an example, and whether it takes ``in`` or ``of``."""

    pattern: str
    example: str
    scope: str
    build: Callable[..., Objective]


WORDINGS: dict[str, Wording] = {
    "availability": Wording(
        rf"at least {_PERCENT}",
        "at least 99.9 %",
        "in",
        lambda m, **k: Availability(at_least=fraction(m["percent"]), **k),
    ),
    "error rate": Wording(
        rf"below {_PERCENT}",
        "below 1 %",
        "in",
        lambda m, **k: ErrorRate(below=fraction(m["percent"]), **k),
    ),
    "latency": Wording(
        rf"p(?P<rank>\d{{1,2}}(?:\.\d+)?) below {_DURATION}",
        "p95 below 200ms",
        "in",
        lambda m, **k: Latency(fraction=_rank(m["rank"]), below_s=duration_s(m["duration"]), **k),
    ),
    "throughput": Wording(
        rf"at least {_PERCENT} of planned",
        "at least 95 % of planned",
        "in",
        lambda m, **k: Throughput(at_least=fraction(m["percent"]), **k),
    ),
    "recovery": Wording(
        rf"within {_DURATION}",
        "within 30s",
        "of",
        lambda m, **k: Recovery(within_s=duration_s(m["duration"]), **k),
    ),
    "failover": Wording(
        rf"within {_DURATION}",
        "within 30s",
        "of",
        lambda m, **k: Failover(within_s=duration_s(m["duration"]), **k),
    ),
    "failback": Wording(
        rf"within {_DURATION}",
        "within 60s",
        "of",
        lambda m, **k: Failback(within_s=duration_s(m["duration"]), **k),
    ),
    "durability": Wording(
        r"no upload lost or altered",
        "no upload lost or altered",
        "of",
        lambda m, rpo_s=0.0, **k: Durability(rpo_s=rpo_s, **k),
    ),
    "agreement": Wording(
        rf"client and Prometheus within {_PERCENT}",
        "client and Prometheus within 2 %",
        "in",
        lambda m, **k: Agreement(within=fraction(m["percent"]), **k),
    ),
    "canary": Wording(
        rf"(?P<ends>withdrawn|promoted) within {_DURATION}",
        "withdrawn within 60s",
        "of",
        lambda m, **k: Canary(ends=m["ends"], within_s=duration_s(m["duration"]), **k),
    ),
    "blue/green": Wording(
        rf"switched within {_DURATION}",
        "switched within 60s",
        "of",
        lambda m, **k: BlueGreen(within_s=duration_s(m["duration"]), **k),
    ),
    "rolling update": Wording(
        rf"complete within {_DURATION}",
        "complete within 60s",
        "of",
        lambda m, **k: RollingUpdate(within_s=duration_s(m["duration"]), **k),
    ),
}


def parse_objective(kind: str, wording: object, **where: Any) -> Objective:
    """The objective of ``kind`` worded so; ``where`` is ``text``, ``line`` and the scope.

    Raises ValueError with what was expected instead.
    """
    known = WORDINGS[kind]
    match = re.fullmatch(known.pattern, wording.strip()) if isinstance(wording, str) else None
    if match is None:
        raise ValueError(f"{wording!r} is not how {kind} is written; write: {known.example}")
    return known.build(match, **where)


def _rank(text: str) -> float:
    rank = float(text)
    if not 0 < rank < 100:
        raise ValueError(f"p{text} is not a percentile; write one between p1 and p99.9")
    return round(rank / 100, 9)
