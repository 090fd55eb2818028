"""Client and Prometheus side by side: two views of the same seconds must tell the same.

Prometheus counts what the gateways answered; so do the clients, by the header that says
who served. A counter is read at scrapes, up to one interval old, and a client's arrivals
are counted at their planned second, so at the edges of a window some fall on either side.
Where the two differ by more than that and the plan's tolerance, one of them is wrong and
nothing built on them is sure. What Prometheus cannot tell (no answer, empty, NaN, partial,
scrapes missing) is unknown, never agreement; so is a phase too short for its scrapes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.evidence.model import Series, SeriesLine
from harness.plan.model import Agreement
from harness.verdict.case import Case
from harness.verdict.counts import Share
from harness.verdict.model import Finding, Measured, Outcome

REQUESTS = "gateway_requests"
BUCKETS = "gateway_latency_bucket"
#: What the gateways serve besides the traffic that is counted.
_NOT_TRAFFIC = frozenset({"", "token", "health", "metrics", "other"})
_MISSED_STEPS = 2.5
_SIGMAS = 5.0
#: Where the edges of a window may hide more than this share of it, nothing is compared.
_TOO_WIDE = 0.25


@dataclass(frozen=True)
class View:
    """What Prometheus counted in a phase; ``why_not`` says why it counted nothing sure."""

    requests: float = 0.0
    errors: float = 0.0
    below_200ms: Share | None = None
    why_not: str = ""

    @property
    def error_rate(self) -> float | None:
        """5xx answers among all."""
        return self.errors / self.requests if self.requests and not self.why_not else None


def view(case: Case, phase: str) -> View:
    """Prometheus's view of the whole seconds of ``phase``."""
    seconds = case.seconds(phase)
    if not seconds:
        return View(why_not="the phase did not run to its end")
    series = case.evidence.series.get(REQUESTS)
    problem = _unusable(series, REQUESTS, seconds)
    if series is None or problem:
        return View(why_not=problem)
    requests = errors = 0.0
    for line in series.result:
        if line.labels.get("op", "") in _NOT_TRAFFIC:
            continue
        increase = _increase(line, seconds, series.step_s)
        if increase is None:
            name = line.labels.get("instance", "a series")
            return View(why_not=f"{REQUESTS}: {name} is not a number, or misses scrapes")
        requests += increase
        if line.labels.get("code", "").startswith("5"):
            errors += increase
    if requests == 0:
        return View(why_not=f"{REQUESTS}: no request was counted")
    return View(requests, errors, _below(case, seconds))


def judge_agreement(case: Case, objective: Agreement, phase: str) -> Finding:
    """Answers counted by clients and by Prometheus, within the plan's tolerance."""
    seen = view(case, phase)
    required = f"within {objective.within:.1%} and one scrape interval at each edge"
    evidence = ("tallies/", f"series/{REQUESTS}.json")
    counts = case.counts(phase)
    answered = sum(cell.n for cell in counts.cells if cell.region)
    if seen.why_not or not answered:
        because = seen.why_not or "no client was answered by a gateway"
        return Finding(objective.text, phase, Outcome.UNKNOWN, None, required, because, evidence)
    # Both ends of the window are read on the same grid: they miss at most one interval in
    # length, and what shifts in and out at the two edges is chance.
    per_interval = case.scrape_interval_s * case.plan.traffic.rate
    edge = per_interval + _SIGMAS * math.sqrt(4 * per_interval)
    difference = seen.requests - answered
    share = difference / answered
    spread = edge / answered
    measured = Measured(share, share - spread, share + spread, "of the clients' count")
    if spread > _TOO_WIDE:
        because = f"the phase is too short for scrapes every {case.scrape_interval_s:g} s to tell"
        return Finding(
            objective.text, phase, Outcome.UNKNOWN, measured, required, because, evidence
        )
    allowed = objective.within * answered + edge + counts.unaccounted
    because = f"Prometheus counted {seen.requests:.0f} answers, clients {answered}"
    if abs(difference) > allowed:
        because += f": they differ by more than both can explain; suspect {REQUESTS} or the tallies"
        return Finding(
            objective.text, phase, Outcome.UNKNOWN, measured, required, because, evidence
        )
    return Finding(objective.text, phase, Outcome.PASS, measured, required, because, evidence)


def _unusable(series: Series | None, name: str, seconds: range) -> str:
    """Why the series says nothing of ``seconds``; empty if it does."""
    if series is None:
        return f"{name}: not recorded"
    if series.error or series.status != "success":
        return f"{name}: {series.error or series.status or 'no status'}"
    if series.warnings:
        return f"{name}: partial: {series.warnings[0]}"
    instants = sorted({t for line in series.result for t, _ in line.points})
    if not instants:
        return f"{name}: empty"
    inside = [t for t in instants if seconds.start - series.step_s <= t <= seconds.stop]
    widest = max(
        (
            b - a
            for a, b in zip(
                [float(seconds.start), *inside], [*inside, float(seconds.stop)], strict=True
            )
        ),
    )
    if widest > _MISSED_STEPS * series.step_s:
        return f"{name}: no scrape for {widest:.0f} s of the phase"
    return ""


def _increase(line: SeriesLine, seconds: range, step_s: float) -> float | None:
    """Growth of a counter over ``seconds``, resets added up; None when it cannot be told.

    A line that begins inside the window began at zero: a label set appears with its
    first count.
    """
    points = [(t, v) for t, v in line.points if seconds.start - step_s <= t <= seconds.stop]
    if not points:
        return 0.0
    values = []
    for _, text in points:
        value = _number(text)
        if value is None:
            return None
        values.append(value)
    for (a, _), (b, _) in itertools.pairwise(points):
        if b - a > _MISSED_STEPS * step_s:
            return None
    began_inside = points[0][0] >= seconds.start and points[0] == line.points[0]
    grown = values[0] if began_inside else 0.0
    for before, after in itertools.pairwise(values):
        grown += after - before if after >= before else after
    return grown


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _below(case: Case, seconds: range) -> Share | None:
    """Share of answers within 200 ms by the gateways' own histograms; None when not known."""
    series = case.evidence.series.get(BUCKETS)
    if series is None or _unusable(series, BUCKETS, seconds):
        return None
    sums: dict[str, float] = {"0.2": 0.0, "+Inf": 0.0}
    for line in series.result:
        if line.labels.get("op", "") in _NOT_TRAFFIC:
            continue
        increase = _increase(line, seconds, series.step_s)
        if increase is None:
            return None
        sums[_bound(line.labels)] = sums.get(_bound(line.labels), 0.0) + increase
    if sums["+Inf"] <= 0:
        return None
    share = min(1.0, sums["0.2"] / sums["+Inf"])
    return Share(share, share)


def _bound(labels: Mapping[str, str]) -> str:
    return labels.get("le", "").rstrip("0") if labels.get("le", "").startswith("0.") else "+Inf"
