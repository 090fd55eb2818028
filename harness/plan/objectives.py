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
    Alert,
    Availability,
    BlueGreen,
    BurnRate,
    Canary,
    Degradation,
    Durability,
    ErrorBudget,
    ErrorRate,
    Failback,
    Failover,
    Latency,
    Mtbf,
    Mttr,
    NoOtherAlert,
    Objective,
    Recovery,
    Regression,
    RollingUpdate,
    Scaling,
    Throughput,
)
from harness.plan.quantities import duration_s, fraction, rate_per_s
from harness.plan.selector import PATTERN
from harness.plan.slo import Slo

_PERCENT = r"(?P<percent>[\d.]+ ?%?)"
#: Runs that a run may be compared with.
REGRESSION_RUNS_MIN, REGRESSION_RUNS_MAX = 3, 100
_DURATION = r"(?P<duration>\S+)"
_NAMES = r"[\w-]+(?:, ?[\w-]+)*"


@dataclass(frozen=True)
class Wording:
    """One kind of objective: its pattern, an example, whether it takes ``in`` or ``of`` (or
    neither), and which other keys."""

    pattern: str
    example: str
    scope: str
    build: Callable[..., Objective]
    extra: tuple[str, ...] = ()


WORDINGS: dict[str, Wording] = {
    "availability": Wording(
        rf"at least {_PERCENT}",
        "at least 99.9 %",
        "in",
        lambda m, **k: Availability(at_least=fraction(m["percent"]), **k),
        ("for", "degraded"),
    ),
    "error rate": Wording(
        rf"below {_PERCENT}",
        "below 1 %",
        "in",
        lambda m, **k: ErrorRate(below=fraction(m["percent"]), **k),
        ("for",),
    ),
    "latency": Wording(
        rf"p(?P<rank>\d{{1,2}}(?:\.\d+)?) below {_DURATION}",
        "p95 below 200ms",
        "in",
        lambda m, **k: Latency(fraction=_rank(m["rank"]), below_s=duration_s(m["duration"]), **k),
        ("for", "degraded"),
    ),
    "throughput": Wording(
        rf"at least (?:{_PERCENT} of planned|(?P<rate>[\d.]+ ?/ ?s))",
        "at least 95 % of planned, or at least 190/s",
        "in",
        lambda m, **k: _throughput(m, **k),
        ("for",),
    ),
    "error budget": Wording(
        rf"at most {_PERCENT} spent",
        "at most 5 % spent",
        "in",
        lambda m, **k: _error_budget(m, **k),
        ("for", "slo", "period"),
    ),
    "burn rate": Wording(
        r"below (?P<factor>\d+(?:\.\d+)?) over (?P<long>\S+)(?: and (?P<short>\S+))?",
        "below 14.4 over 1h and 5m",
        "in",
        lambda m, **k: _burn_rate(m, **k),
        ("for", "slo"),
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
    "degradation": Wording(
        rf"(?P<operations>{_NAMES}) degraded within (?P<duration>[^\s,]+), "
        rf"at least {_PERCENT} answered, whole again within (?P<whole>\S+)",
        "image degraded within 10s, at least 99 % answered, whole again within 20s",
        "of",
        lambda m, **k: Degradation(
            operations=_listed(m["operations"], "an operation"),
            within_s=duration_s(m["duration"]),
            at_least=fraction(m["percent"]),
            whole_within_s=duration_s(m["whole"]),
            **k,
        ),
        ("breaker",),
    ),
    "durability": Wording(
        r"no upload lost or altered|(?P<strict>no write lost, altered, duplicated or undone)|"
        rf"at most {_PERCENT} lost, (?P<confidence>[\d.]+ ?%) confident",
        "no upload lost or altered (or: no write lost, altered, duplicated or undone; "
        "or: at most 0.1 % lost, 95 % confident)",
        "of",
        lambda m, rpo_s=0.0, **k: _durability(m, rpo_s=rpo_s, **k),
        ("rpo",),
    ),
    "alert": Wording(
        rf"(?P<alert>{PATTERN}) fires within {_DURATION}(?: to (?P<to>{_NAMES}))?"
        r"(?:,? and resolves within (?P<resolves>\S+))?",
        "ServiceDown fires within 15s to slack, mail and resolves within 30s",
        "of",
        lambda m, **k: Alert(
            alert=m["alert"],
            fires_within_s=duration_s(m["duration"]),
            receivers=_listed(m["to"]),
            resolves_within_s=duration_s(m["resolves"]) if m["resolves"] else None,
            **k,
        ),
    ),
    "alerts": Wording(
        rf"no other(?: but (?P<allowed>{PATTERN}(?:, ?{PATTERN})*))?",
        "no other but TargetDown, ServiceLatencyHigh",
        "in",
        lambda m, **k: NoOtherAlert(allowed=tuple(re.findall(PATTERN, m["allowed"] or "")), **k),
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
    "scaling": Wording(
        rf"(?P<service>[\w.-]+) out within {_DURATION} and back in within (?P<back>\S+)",
        "image out within 30s and back in within 60s",
        "",
        lambda m, **k: Scaling(
            service=m["service"],
            out_within_s=duration_s(m["duration"]),
            in_within_s=duration_s(m["back"]),
            **k,
        ),
    ),
    "regression": Wording(
        rf"(?P<figure>p50|p95|p99|availability|error rate) at most {_PERCENT} "
        r"(?P<way>above|below) the last (?P<runs>\d+) green runs",
        "p95 at most 20 % above the last 10 green runs",
        "in",
        lambda m, **k: _regression(m, **k),
    ),
    "mttr": Wording(
        rf"below {_DURATION}",
        "below 15m",
        "",
        lambda m, **k: Mttr(below_s=duration_s(m["duration"]), **k),
        ("incidents", "over"),
    ),
    "mtbf": Wording(
        rf"above {_DURATION}",
        "above 720h",
        "",
        lambda m, **k: Mtbf(above_s=duration_s(m["duration"]), **k),
        ("incidents", "over"),
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


def objective_of(slo: Slo, **where: Any) -> Objective:
    """What an SLO read from a file says of a phase; ``where`` as for :func:`parse_objective`."""
    of = f"for {', '.join(slo.operations)} " if slo.operations else ""
    words = f"{of}({slo.name}, {slo.source})"
    if slo.within_s:
        text = f"latency: {slo.target * 100:g} % within {slo.within_s * 1e3:g}ms {words}"
        return Latency(text=text, fraction=slo.target, below_s=slo.within_s, **where)
    text = f"availability: at least {slo.target * 100:g} % {words}"
    return Availability(text=text, at_least=slo.target, **where)


def _throughput(match: re.Match[str], **where: Any) -> Throughput:
    if match["rate"]:
        return Throughput(at_least=0.0, at_least_per_s=rate_per_s(match["rate"]), **where)
    return Throughput(at_least=fraction(match["percent"]), **where)


def _error_budget(match: re.Match[str], slo: Slo, **where: Any) -> ErrorBudget:
    assert slo.period_s is not None
    text = f"{where.pop('text')} of {slo.words} over {slo.period_s / 86_400:g}d"
    return ErrorBudget(
        text=text,
        at_most=fraction(match["percent"]),
        slo=slo.target,
        period_s=slo.period_s,
        within_s=slo.within_s,
        **where,
    )


def _burn_rate(match: re.Match[str], slo: Slo, **where: Any) -> BurnRate:
    windows = tuple(duration_s(text) for text in (match["long"], match["short"]) if text)
    if any(window != int(window) for window in windows):
        raise ValueError("what clients counted is known by whole seconds; write such windows")
    if len(windows) == 2 and windows[1] >= windows[0]:
        raise ValueError("the second window confirms the first; write a shorter one")
    factor = float(match["factor"])
    if factor <= 0:
        raise ValueError("nothing is below a burn rate of 0; write one such as 14.4")
    text = f"{where.pop('text')} of {slo.words}"
    return BurnRate(
        text=text,
        below=factor,
        windows_s=windows,
        slo=slo.target,
        within_s=slo.within_s,
        **where,
    )


def _regression(match: re.Match[str], **where: Any) -> Regression:
    figure, runs, at_most = match["figure"], int(match["runs"]), fraction(match["percent"])
    worse = "below" if figure == "availability" else "above"
    if match["way"] != worse:
        raise ValueError(f"{figure} is worse when it is {worse}; write so")
    if not REGRESSION_RUNS_MIN <= runs <= REGRESSION_RUNS_MAX:
        raise ValueError(
            f"{runs} runs are too few or too many to compare with; "
            f"write {REGRESSION_RUNS_MIN} to {REGRESSION_RUNS_MAX}"
        )
    if at_most <= 0:
        raise ValueError("no two runs are alike; allow some change, such as 20 %")
    return Regression(figure=figure, at_most=at_most, runs=runs, **where)


def _durability(match: re.Match[str], **where: Any) -> Durability:
    if match["confidence"] is None:
        return Durability(strict=match["strict"] is not None, **where)
    confidence = fraction(match["confidence"])
    if not 0.5 <= confidence < 1:
        raise ValueError(f"{match['confidence']} is no confidence; write one such as 95 %")
    return Durability(at_most=fraction(match["percent"]), confidence=confidence, **where)


def _listed(names: str | None, what: str = "a receiver") -> tuple[str, ...]:
    """Names with commas between; each once."""
    found = tuple(re.findall(r"[\w-]+", names or ""))
    if len(set(found)) < len(found):
        raise ValueError(f"{names!r} names {what} twice; name each once")
    return found


def _rank(text: str) -> float:
    rank = float(text)
    if not 0 < rank < 100:
        raise ValueError(f"p{text} is not a percentile; write one between p1 and p99.9")
    return round(rank / 100, 9)
