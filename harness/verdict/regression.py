"""Whether a run is worse than the green ones before it.

The unit is the run and not the request: thousands of requests of one run say nothing of how
much runs differ. A new run of the same kind lies beyond the bound

    mean ± t(0.95, n − 1) · s · √(1 + 1/n)

of n earlier ones in one of twenty cases (the prediction interval of a normal sample: Hahn and
Meeker, Statistical Intervals, 2nd ed., chapter 4). Latencies are compared by their logarithms, so a
change is a factor. The change is judged as that interval: it passes if all of it is allowed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.plan.model import Regression
from harness.verdict.case import Case
from harness.verdict.counts import Counts, Share
from harness.verdict.intervals import CONFIDENCE, student_quantile
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most
from harness.verdict.reliability import earlier_runs
from harness.verdict.sufficiency import LATE_SHARE, late_share

#: With fewer runs than this nobody knows how much runs differ.
RUNS_MIN = 3
#: A change of the size stated is seen with this probability.
POWER = 0.8
_EVIDENCE = ("tallies/", "plan.json history")


@dataclass(frozen=True)
class _Before:
    """A figure of earlier runs, one interval each, and how many arrivals each had."""

    figures: tuple[Share, ...]
    planned: tuple[float, ...]


def judge_regression(case: Case, objective: Regression, phase: str) -> Finding:
    """The change of a figure against earlier runs, made worse by chance as far as it may be."""
    timed = _quantile(objective.figure) > 0
    unit = "of what it was" if timed else "of the arrivals"
    required = f"≤ {objective.at_most:.4g} {unit} worse than the last {objective.runs} green runs"
    counts = case.counts(phase)
    before = _before(case, objective, phase)
    n = len(before.figures)

    def said(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        return Finding(objective.text, phase, outcome, measured, required, because, _EVIDENCE)

    if n < RUNS_MIN:
        because = f"{n} green runs of this same plan with whole evidence are known here"
        return said(Outcome.UNKNOWN, f"{because}; {RUNS_MIN - n} more are needed at least")
    now = _now(counts, objective.figure)
    if now is None:
        return said(*_none(counts, objective.figure))
    low, high, spread = _change(now, before, counts, objective)
    margin = student_quantile(CONFIDENCE, n - 1) * spread
    worst, best = high + margin, low - margin
    bound = math.log1p(objective.at_most) if timed else objective.at_most
    outcome = judge_at_most(bound, best, worst)
    middle, best, worst_shown = (
        math.expm1(x) if timed else x for x in ((low + high) / 2, best, worst)
    )
    seen = margin + student_quantile(POWER, n - 1) * spread
    because = (
        f"{_worse(middle, timed)} than the mean of {n} green runs, with what runs differ by "
        f"chance {_worse(best, timed)} to {_worse(worst_shown, timed)} "
        f"(Student's t, each at {CONFIDENCE:.0%} confidence); the smallest change it sees four "
        f"times in five is {_points(math.expm1(seen) if timed else seen, timed)}"
    )
    if outcome is Outcome.UNKNOWN and worst - high > bound:
        because += f", more than the {_points(objective.at_most, timed)} allowed: runs differ too "
        because += "much, or are too few, to tell"
    late = late_share(case, case.seconds(phase))
    if outcome is Outcome.FAIL and timed and late >= LATE_SHARE:
        outcome = Outcome.UNKNOWN
        because += f"; but the generator itself sent {late:.1%} of them over 50 ms late"
    return said(outcome, because, Measured(middle, best, worst_shown, "ratio"))


def _quantile(figure: str) -> float:
    """Which quantile of latency a figure is; 0 for a share."""
    return {"p50": 0.5, "p95": 0.95, "p99": 0.99}.get(figure, 0.0)


def _now(counts: Counts, figure: str) -> Share | None:
    if q := _quantile(figure):
        return counts.quantile_s(q)
    return counts.availability() if figure == "availability" else counts.error_rate()


def _none(counts: Counts, figure: str) -> tuple[Outcome, str]:
    """Of a figure that does not exist: a quantile beyond all that succeeded, or no traffic."""
    share = counts.availability()
    if share is not None and share.high < _quantile(figure):
        return (
            Outcome.FAIL,
            f"so few arrivals succeeded ({share.high:.3%}) that there is no {figure}",
        )
    return Outcome.UNKNOWN, "no arrivals" if share is None else f"there may be no {figure}"


def _before(case: Case, objective: Regression, phase: str) -> _Before:
    """The figure in the last green runs of the same plan with the same traffic."""
    plan = case.plan
    same = (plan.name, plan.sha256, plan.traffic.rate_words)
    found: list[tuple[Share, float]] = []
    for run in earlier_runs(case):
        if (run["plan"], run["plan_sha256"], run["traffic"]) != same:
            continue
        if run["outcome"] != Outcome.PASS or run["complete"] is not True:
            continue
        figures = {f["name"]: f for f in run["figures"] if f["phase"] == phase}
        value = figures.get(objective.figure.replace(" ", "_"))
        if value is not None and _usable(value, objective.figure):
            planned = float(figures["planned"]["low"])
            found.append((Share(float(value["low"]), float(value["high"])), planned))
    last = found[-objective.runs :]
    return _Before(tuple(share for share, _ in last), tuple(planned for _, planned in last))


def _usable(value: Mapping[str, Any], figure: str) -> bool:
    return not _quantile(figure) or float(value["low"]) > 0


def _change(
    now: Share, before: _Before, counts: Counts, objective: Regression
) -> tuple[float, float, float]:
    """How much worse this run is, at least and at most, and by how much runs differ: one new run
    from the mean of those before."""
    lows, highs = [f.low for f in before.figures], [f.high for f in before.figures]
    this = now
    timed = _quantile(objective.figure) > 0
    if timed:
        lows, highs = [math.log(x) for x in lows], [math.log(x) for x in highs]
        this = Share(math.log(max(now.low, 1e-9)), math.log(max(now.high, 1e-9)))
    n = len(lows)
    middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    deviation = statistics.stdev(middles)
    low, high = this.low - statistics.fmean(highs), this.high - statistics.fmean(lows)
    if objective.figure == "availability":
        low, high = -high, -low
    if not timed:
        deviation = max(deviation, _chance(middles, before.planned, counts))
    return low, high, deviation * math.sqrt(1 + 1 / n)


def _chance(shares: list[float], planned: tuple[float, ...], counts: Counts) -> float:
    """By how much shares differ at least, were every arrival a coin of its own.

    Where nothing ever failed the next failure is counted with the run's rule of succession. It
    is the same whether those that succeeded are counted or those that failed.
    """
    counted = math.fsum(share * n for share, n in zip(shares, planned, strict=True))
    share = (counted + 1) / (math.fsum(planned) + 2)
    return math.sqrt(share * (1 - share) / max(1, min(counts.planned, *planned)))


def _worse(change: float, timed: bool) -> str:
    word = "worse" if change >= 0 else "better"
    return f"{_points(abs(change), timed)} {word}"


def _points(change: float, timed: bool) -> str:
    return f"{change:.1%}" if timed else f"{change * 100:.3g} points"
