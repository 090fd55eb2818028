"""Client and Prometheus side by side: two views of the same time must tell the same.

Prometheus counts what the gateways answered; so do the clients, by the header that says
who served. Counters are known at their scrapes, so the clients' answers are added up
between the same two instants: from the scrapes before the phase to the last scrapes in it.
What stays unsure is chance at the two edges (clients count by whole seconds, gateways are
scraped one after another) and enters the interval of the difference. Only an interval
wholly within the plan's tolerance is agreement. One wholly outside says that one of the
two is wrong, and nothing built on them is sure. What Prometheus cannot tell (no answer, empty, NaN,
partial, scrapes missing) is unknown, never agreement.
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
#: 99 % of a normal distribution lies within so many standard deviations of its mean.
_SIGMAS = 2.576


@dataclass(frozen=True)
class View:
    """What Prometheus counted in a phase; ``why_not`` says why it counted nothing sure."""

    requests: float = 0.0
    errors: float = 0.0
    below_200ms: Share | None = None
    why_not: str = ""
    #: the instants between which this was counted, as means over the counters
    start_t: float = 0.0
    end_t: float = 0.0
    #: what counters that ended in the phase may have counted after their last scrape
    unseen: float = 0.0

    @property
    def error_rate(self) -> float | None:
        """5xx answers among all."""
        return self.errors / self.requests if self.requests and not self.why_not else None


def view(case: Case, phase: str) -> View:
    """Prometheus's view of ``phase``, from scrape to scrape."""
    seconds = case.seconds(phase)
    if not seconds:
        return View(why_not="the phase did not run to its end")
    series = case.evidence.series.get(REQUESTS)
    problem = _unusable(series, REQUESTS, seconds)
    if series is None or problem:
        return View(why_not=problem)
    grown: list[tuple[SeriesLine, Growth]] = []
    for line in series.result:
        if line.labels.get("op", "") in _NOT_TRAFFIC:
            continue
        growth = _growth(line, seconds, series.step_s)
        if growth is None:
            name = line.labels.get("instance", "a series")
            return View(why_not=f"{REQUESTS}: {name} is not a number, or misses scrapes")
        grown.append((line, growth))
    requests = sum(growth.count for _, growth in grown)
    if requests == 0:
        return View(why_not=f"{REQUESTS}: no request was counted")
    return View(
        requests=requests,
        errors=sum(g.count for line, g in grown if line.labels.get("code", "").startswith("5")),
        below_200ms=_below(case, seconds),
        start_t=sum(g.count * g.start_t for _, g in grown) / requests,
        end_t=sum(g.count * g.end_t for _, g in grown) / requests,
        unseen=sum(g.unseen for _, g in grown),
    )


def judge_agreement(case: Case, objective: Agreement, phase: str) -> Finding:
    """Answers counted by clients and by Prometheus, within the plan's tolerance."""
    seen = view(case, phase)
    required = f"within {objective.within:.1%}, with 99 % confidence"
    evidence = ("tallies/", f"series/{REQUESTS}.json")
    answered = _answered_between(case, seen.start_t, seen.end_t)

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        return Finding(objective.text, phase, outcome, measured, required, because, evidence)

    if seen.why_not or not answered:
        return finding(Outcome.UNKNOWN, seen.why_not or "no client was answered by a gateway")
    # At each edge an arrival falls on either side by chance: within a second of the clients'
    # count, and within the scrapes, which are spread over one interval. The variance of a
    # Poisson count so divided is at most a quarter of it.
    rate = answered / (seen.end_t - seen.start_t)
    chance = _SIGMAS * math.sqrt(2 * rate * (1.0 + case.scrape_interval_s) / 4)
    spread = (chance + case.counts(phase).unaccounted + seen.unseen) / answered
    share = (seen.requests - answered) / answered
    measured = Measured(share, share - spread, share + spread, "of the clients' count")
    because = f"Prometheus counted {seen.requests:.0f} answers, clients {answered:.0f}"
    if abs(share) + spread <= objective.within:
        return finding(Outcome.PASS, because, measured)
    if abs(share) - spread > objective.within:
        because += f": they differ by more than both can explain; suspect {REQUESTS} or the tallies"
    else:
        because += ": too few, with scrapes so far apart, to tell"
    return finding(Outcome.UNKNOWN, because, measured)


def _answered_between(case: Case, start_t: float, end_t: float) -> float:
    """Answers of gateways that clients counted between two instants; seconds cut evenly."""
    total = 0.0
    for second in range(math.floor(start_t), math.ceil(end_t)):
        answered = sum(cell.n for cell in case.by_second.at(second).cells if cell.region)
        total += answered * (min(second + 1, end_t) - max(second, start_t))
    return total


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


@dataclass(frozen=True)
class Growth:
    """How much a counter grew between two of its scrapes; ``unseen`` may have come after."""

    count: float
    start_t: float
    end_t: float
    unseen: float = 0.0


def _growth(line: SeriesLine, seconds: range, step_s: float) -> Growth | None:
    """Growth of a counter over ``seconds``, resets added up; None when it cannot be told.

    From its last scrape before them to its last within. A line that begins inside began at
    zero: a label set appears with its first count.
    """
    farthest_s = _MISSED_STEPS * step_s
    until = [(t, v) for t, v in line.points if t <= seconds.stop]
    points = [(t, v) for t, v in until if t > seconds.start]
    before = [(t, v) for t, v in until if t <= seconds.start][-1:]
    if not points and (not before or before[0][0] < seconds.stop - farthest_s):
        return Growth(0.0, float(seconds.start), float(seconds.stop))
    points = [*before, *points]
    values = []
    for _, text in points:
        value = _number(text)
        if value is None:
            return None
        values.append(value)
    if any(b - a > farthest_s for (a, _), (b, _) in itertools.pairwise(points)):
        return None
    count = 0.0 if before else values[0]
    for earlier, later in itertools.pairwise(values):
        count += later - earlier if later >= earlier else later
    start_t = points[0][0] if before else float(seconds.start)
    end_t = points[-1][0]
    if end_t >= seconds.stop - farthest_s:
        return Growth(count, start_t, end_t)
    unseen = count / max(step_s, end_t - start_t) * farthest_s
    return Growth(count, start_t, float(seconds.stop), unseen)


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
        growth = _growth(line, seconds, series.step_s)
        if growth is None:
            return None
        sums[_bound(line.labels)] = sums.get(_bound(line.labels), 0.0) + growth.count
    if sums["+Inf"] <= 0:
        return None
    share = min(1.0, sums["0.2"] / sums["+Inf"])
    return Share(share, share)


def _bound(labels: Mapping[str, str]) -> str:
    return labels.get("le", "").rstrip("0") if labels.get("le", "").startswith("0.") else "+Inf"
