"""Client and Prometheus side by side: two views of the same time must tell the same.

Prometheus counts what the gateways answered; so do the clients, by the header that says
who served. Counters are known at their scrapes, so the clients' answers are added up
between the same two instants: from the first scrapes in the phase to the last.
What stays unsure is chance at the two edges (clients count by whole seconds, gateways are
scraped one after another) and enters the interval of the difference, as does any change of the
offset of Prometheus's clock, by which its instants are corrected. Only an interval
wholly within the plan's tolerance is agreement. One wholly outside says that one of the
two is wrong, and nothing built on them is sure. What Prometheus cannot tell (no answer, empty, NaN,
partial, scrapes missing) is unknown, never agreement.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.evidence.model import EDGE, Series, SeriesLine
from harness.plan.model import Agreement
from harness.verdict.case import Case
from harness.verdict.clocks import NO_OFFSET, Offset, prometheus_ahead
from harness.verdict.counts import Share
from harness.verdict.model import Finding, Measured, Outcome

REQUESTS = "gateway_requests"
BUCKETS = "gateway_latency_bucket"
#: What the gateways serve besides the traffic that is counted.
#: An upload in parts is one operation, counted as ``upload`` when its last part is answered.
_NOT_TRAFFIC = frozenset(
    {
        "",
        "token",
        "health",
        "metrics",
        "other",
        "synthetic",
        "upload-create",
        "upload-offset",
        "upload-options",
        "upload-part",
    }
)
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
    #: how far Prometheus's clock was ahead; its instants are corrected by the middle of that
    ahead: Offset = NO_OFFSET

    @property
    def error_rate(self) -> float | None:
        """5xx answers among all."""
        return self.errors / self.requests if self.requests and not self.why_not else None


def view(case: Case, phase: str) -> View:
    """Prometheus's view of ``phase``, from scrape to scrape."""
    seconds = case.seconds(phase)
    if not seconds:
        return View(why_not="the phase did not run to its end")
    ahead = prometheus_ahead(case, seconds)
    series = by_our_clock(case.evidence.series.get(REQUESTS), ahead)
    problem = unusable(series, REQUESTS, seconds)
    if series is None or problem:
        return View(why_not=problem)
    traffic = [x for x in series.result if x.labels.get("op", "") not in _NOT_TRAFFIC]
    pods = []
    for name, lines in _by_instance(traffic).items():
        growth = _growth(lines, seconds, series.step_s)
        if growth is None:
            return View(why_not=f"{REQUESTS}: {name} is not a number, or misses scrapes")
        pods.append(growth)
    requests = sum(pod.total for pod in pods)
    if requests == 0:
        return View(why_not=f"{REQUESTS}: no request was counted")
    return View(
        requests=requests,
        errors=sum(pod.sum_where("code", lambda code: code.startswith("5")) for pod in pods),
        below_200ms=_below(case, seconds, ahead),
        start_t=_mean([(pod.start_t, pod.total) for pod in pods], float(seconds.start)),
        end_t=_mean([(pod.end_t, pod.total) for pod in pods], float(seconds.stop)),
        unseen=sum(pod.unseen for pod in pods),
        ahead=ahead,
    )


def _mean(weighted: list[tuple[float | None, float]], otherwise: float) -> float:
    """Mean of the instants that are known, by weight."""
    known = [(t, weight) for t, weight in weighted if t is not None and weight > 0]
    if not known:
        return otherwise
    return sum(t * weight for t, weight in known) / sum(weight for _, weight in known)


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
    rate = max(answered / (seen.end_t - seen.start_t), *_rates_at_edges(case, seen))
    chance = _SIGMAS * math.sqrt(2 * rate * (1.0 + case.scrape_interval_s) / 4)
    by_clock = rate * (seen.ahead.high_s - seen.ahead.low_s)
    spread = (chance + by_clock + case.counts(phase).unaccounted + seen.unseen) / answered
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
    """Answers of gateways that clients counted between two instants; seconds cut evenly.

    What a cache in front of them answered never reached a gateway. Read-back while the traffic
    runs is a client too.
    """
    total = float(
        sum(r.answers for r in case.evidence.readbacks if r.phase and start_t <= r.t < end_t)
    )
    for second in range(math.floor(start_t), math.ceil(end_t)):
        cells = case.by_second.at(second).cells
        answered = sum(cell.n for cell in cells if cell.region not in ("", EDGE))
        total += answered * (min(second + 1, end_t) - max(second, start_t))
    return total


def unusable(series: Series | None, name: str, seconds: range) -> str:
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
    """How much one pod's counters grew between two of its scrapes.

    ``start_t`` is None for a pod that appeared meanwhile and began at zero, ``end_t`` for
    one that disappeared; it may then have counted ``unseen`` more after its last scrape.
    """

    counts: tuple[tuple[Mapping[str, str], float], ...]
    start_t: float | None
    end_t: float | None
    unseen: float = 0.0

    @property
    def total(self) -> float:
        return sum(count for _, count in self.counts)

    def sum_where(self, label: str, wanted: Callable[[str], bool]) -> float:
        """The growth of the counters whose ``label`` is wanted."""
        return sum(count for labels, count in self.counts if wanted(labels.get(label, "")))


def _rates_at_edges(case: Case, seen: View) -> tuple[float, ...]:
    """What is planned around the edges where that is not what is planned all the time."""
    if case.plan.traffic.curve.is_constant:
        return (0.0,)
    around_s = 1.0 + case.scrape_interval_s
    edges = (seen.start_t, seen.end_t)
    return tuple(case.due(t - around_s, t + around_s) / (2 * around_s) for t in edges)


def _by_instance(lines: Iterable[SeriesLine]) -> dict[str, list[SeriesLine]]:
    found: dict[str, list[SeriesLine]] = {}
    for line in lines:
        found.setdefault(line.labels.get("instance", "a series"), []).append(line)
    return found


def _growth(lines: list[SeriesLine], seconds: range, step_s: float) -> Growth | None:
    """Growth of one pod's counters over ``seconds``, resets added up; None if it cannot be told.

    From the pod's first scrape in them to its last. All its counters are scraped at once, so
    one that is not there yet is at zero: a label set appears with its first count.
    """
    farthest_s = _MISSED_STEPS * step_s
    scrapes = sorted({t for line in lines for t, _ in line.points})
    inside = [t for t in scrapes if seconds.start <= t <= seconds.stop]
    if not inside:
        known = any(seconds.start - farthest_s <= t <= seconds.stop + farthest_s for t in scrapes)
        return None if known and len(seconds) > farthest_s else Growth((), None, None)
    if any(b - a > farthest_s for a, b in itertools.pairwise(inside)):
        return None
    late = inside[0] > seconds.start + farthest_s
    if late and scrapes[0] < inside[0]:
        return None
    counts = []
    for line in lines:
        values = [(t, _number(text)) for t, text in line.points if inside[0] <= t <= inside[-1]]
        count = _increase(values, inside, began_at_zero=late)
        if count is None:
            return None
        counts.append((line.labels, count))
    start_t = None if late else inside[0]
    if inside[-1] >= seconds.stop - farthest_s:
        return Growth(tuple(counts), start_t, inside[-1])
    rate = sum(count for _, count in counts) / max(step_s, inside[-1] - inside[0])
    return Growth(tuple(counts), start_t, None, rate * farthest_s)


def _increase(
    values: list[tuple[float, float | None]], scrapes: list[float], *, began_at_zero: bool
) -> float | None:
    """Growth of one counter from the first of ``scrapes`` to the last; None if it misses some."""
    if not values:
        return 0.0
    # A counter may begin late, but once there it is in every scrape.
    if len(values) != sum(1 for t in scrapes if t >= values[0][0]):
        return None
    numbers = [value for _, value in values if value is not None]
    if len(numbers) < len(values):
        return None
    grown = numbers[0] if began_at_zero or values[0][0] > scrapes[0] else 0.0
    for earlier, later in itertools.pairwise(numbers):
        grown += later - earlier if later >= earlier else later
    return grown


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def by_our_clock(series: Series | None, ahead: Offset) -> Series | None:
    """The series with the instants the harness's own clock would have given its samples."""
    if series is None or not ahead.middle_s:
        return series
    lines = (
        dataclasses.replace(line, points=tuple((t - ahead.middle_s, v) for t, v in line.points))
        for line in series.result
    )
    return dataclasses.replace(series, result=tuple(lines))


def _below(case: Case, seconds: range, ahead: Offset) -> Share | None:
    """Share of answers within 200 ms by the gateways' own histograms; None when not known."""
    series = by_our_clock(case.evidence.series.get(BUCKETS), ahead)
    if series is None or unusable(series, BUCKETS, seconds):
        return None
    sums: dict[str, float] = {"0.2": 0.0, "+Inf": 0.0}
    traffic = [x for x in series.result if x.labels.get("op", "") not in _NOT_TRAFFIC]
    for lines in _by_instance(traffic).values():
        growth = _growth(lines, seconds, series.step_s)
        if growth is None:
            return None
        for labels, count in growth.counts:
            sums[_bound(labels)] = sums.get(_bound(labels), 0.0) + count
    if sums["+Inf"] <= 0:
        return None
    share = min(1.0, sums["0.2"] / sums["+Inf"])
    return Share(share, share)


def _bound(labels: Mapping[str, str]) -> str:
    return labels.get("le", "").rstrip("0") if labels.get("le", "").startswith("0.") else "+Inf"
