"""Mean time to recovery, mean time between failures: from what happened before this run.

A mean of few has an interval. Failures that come at a constant rate make a Poisson count, so
with r of them in T hours the mean time between failures lies in [T / upper(r), T / lower(r)],
the bounds of a Poisson mean (NIST/SEMATECH e-Handbook of Statistical Methods, 8.4.5.1; half a
quantile of χ²). Times to recovery are taken as exponential: of r that add up to R the mean lies
in [R / upper(r − 1), R / lower(r)]; one not over when watching ended adds to R only, and the
lower bound takes r. Repair times that vary less are known better than this says.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from harness.evidence.model import Series
from harness.plan.model import Mtbf, Mttr
from harness.verdict.case import Case, finite
from harness.verdict.intervals import CONFIDENCE, poisson_lower, poisson_upper
from harness.verdict.model import Finding, Measured, Outcome

#: A mean is of several days, not of one on which much went wrong.
RUNS_MIN = 2
#: Of the time asked for, this share must have been seen.
SEEN_MIN = 0.99
#: And no more of it may have been game days.
OURS_MAX = 0.1
#: Beyond so many repetitions of the same nobody is told how many are missing.
_MORE_MAX = 10_000
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Repair:
    """A failure that lasted between ``low_s`` and ``high_s``; ``ended`` unless watching did."""

    low_s: float
    high_s: float
    ended: bool = True


@dataclass(frozen=True)
class Past:
    """What is known of the time before.

    ``repairs``: failures whose length is known, at least in part. ``failures`` began in the
    ``up_s`` seconds in which the service was up and seen; ``hidden`` more may have, and lasted
    ``hidden_s`` seconds in all beyond what is in ``repairs``.
    """

    repairs: tuple[Repair, ...]
    failures: int
    hidden: int
    up_s: float
    source: str
    where: str
    why_not: str = ""
    hidden_s: float = 0.0


@dataclass(frozen=True)
class Mean:
    """A mean in seconds (None: none is known), and the bounds each held with its confidence."""

    mean_s: float | None
    low_s: float
    high_s: float

    @property
    def words(self) -> str:
        """``mean 25.0 s, at 95% confidence each above 12.4 s and below 73.2 s``."""
        mean = f"mean {long(self.mean_s)}, " if self.mean_s is not None else ""
        below = f" and below {long(self.high_s)}" if self.high_s < math.inf else ""
        return f"{mean}at {CONFIDENCE:.0%} confidence each above {long(self.low_s)}{below}"


def mean_repair(past: Past) -> Mean:
    """The mean time to recovery of what is known."""
    ended = sum(repair.ended for repair in past.repairs)
    low_s = math.fsum(repair.low_s for repair in past.repairs)
    high_s = math.fsum(repair.high_s for repair in past.repairs)
    if not past.repairs:
        return Mean(None, 0.0, math.inf)
    events = ended if ended < len(past.repairs) else ended - 1
    fewest = poisson_lower(ended)
    return Mean(
        high_s / ended if ended else None,
        low_s / poisson_upper(events + past.hidden),
        (high_s + past.hidden_s) / fewest if fewest else math.inf,
    )


def mean_between(past: Past) -> Mean:
    """The mean time between failures of what is known."""
    fewest = poisson_lower(past.failures)
    return Mean(
        past.up_s / past.failures if past.failures else None,
        past.up_s / poisson_upper(past.failures + past.hidden),
        past.up_s / fewest if fewest else math.inf,
    )


def judge_mttr(case: Case, objective: Mttr) -> Finding:
    """The mean of the repair times."""
    past = _past(case, objective)
    required = f"< {long(objective.below_s)}"
    if past.why_not or not past.repairs:
        because = past.why_not or f"no failure was repaired in {past.source}: nothing to tell it by"
        return _finding(objective, Outcome.UNKNOWN, None, required, because, past)
    found = mean_repair(past)
    if found.high_s < objective.below_s:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.FAIL if found.low_s >= objective.below_s else Outcome.UNKNOWN
    ended = sum(repair.ended for repair in past.repairs)
    open_ = len(past.repairs) - ended
    because = f"{ended} repairs in {past.source}"
    because += f", {open_} more not seen from beginning to end" if open_ else ""
    because += f", and {past.hidden} more may have begun unseen" if past.hidden else ""
    because += f"; {found.words}"
    if outcome is Outcome.UNKNOWN:
        because += f"; {_more_repairs(ended, found.mean_s, objective.below_s)}"
    measured = Measured(found.mean_s, found.low_s, found.high_s, "s")
    return _finding(objective, outcome, measured, required, because, past)


def _more_repairs(ended: int, mean: float | None, below_s: float) -> str:
    """How many more repairs like those known would tell."""
    if mean is None or mean >= below_s:
        return "more repairs are needed to tell, and shorter ones to pass"
    # The upper bound falls with every repair more, so the first that is enough can be searched for.
    enough = 1 + bisect.bisect_left(
        range(1, ended + _MORE_MAX), True, key=lambda n: mean * n / _lower(n) < below_s
    )
    more = max(1, enough - ended)
    if more >= _MORE_MAX:
        return f"more than {_MORE_MAX} more like these are needed to tell"
    return f"about {more} more like these are needed to tell"


def _lower(n: int) -> float:
    """About :func:`poisson_lower`, at once for any ``n`` above 0 (Wilson and Hilferty 1931)."""
    return n * (1 - 1 / (9 * n) - 1.6449 / (3 * math.sqrt(n))) ** 3


def judge_mtbf(case: Case, objective: Mtbf) -> Finding:
    """Time up over failures."""
    past = _past(case, objective)
    required = f"> {long(objective.above_s)}"
    if past.why_not:
        return _finding(objective, Outcome.UNKNOWN, None, required, past.why_not, past)
    found = mean_between(past)
    if found.low_s > objective.above_s:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.FAIL if found.high_s <= objective.above_s else Outcome.UNKNOWN
    because = f"{past.failures} failures in {long(past.up_s)} of {past.source}"
    if past.hidden:
        because += f", and {past.hidden} more may have begun unseen"
    because += f"; {found.words}"
    if outcome is Outcome.UNKNOWN:
        needed_s = objective.above_s * poisson_upper(past.failures + past.hidden) - past.up_s
        because += f"; {long(needed_s)} more without a failure are needed to tell"
    mean = None if found.mean_s is None else found.mean_s / _HOUR_S
    measured = Measured(mean, found.low_s / _HOUR_S, found.high_s / _HOUR_S, "h")
    return _finding(objective, outcome, measured, required, because, past)


def _finding(
    objective: Mttr | Mtbf,
    outcome: Outcome,
    measured: Measured | None,
    required: str,
    because: str,
    past: Past,
) -> Finding:
    if measured is not None and measured.high == math.inf:
        measured = Measured(measured.value, measured.low, None, measured.unit)
    return Finding(objective.text, "all", outcome, measured, required, because, (past.where,))


def _past(case: Case, objective: Mttr | Mtbf) -> Past:
    if objective.incidents:
        return _seen(case, objective)
    return remembered(earlier_runs(case), simulated=case.target.get("simulated") is True)


# ---- earlier game days ---------------------------------------------------------------------------


def earlier_runs(case: Case) -> list[Mapping[str, Any]]:
    """What ``plan.json`` remembers of the runs before, the oldest first."""
    history = case.plan.recorded.get("history")
    return list(history["runs"]) if isinstance(history, Mapping) else []


def remembered(runs: Sequence[Mapping[str, Any]], *, simulated: bool) -> Past:
    """What some runs show, as ``plan.json`` remembers them."""
    whole = [run for run in runs if run["complete"] is True]
    named = "simulated game days" if simulated else "game days"
    source = f"{len(whole)} earlier {named}"
    if len(whole) < len(runs):
        source += f" ({len(runs) - len(whole)} more left evidence out)"
    why_not = ""
    if len(whole) < RUNS_MIN:
        missing = RUNS_MIN - len(whole)
        why_not = f"there were {source} of this target, {missing} more are needed at least"
    repairs = [
        Repair(float(r["low_s"]), float(r["low_s"] if r["high_s"] is None else r["high_s"]),
               r["high_s"] is not None)
        for run in whole
        for r in run["repairs"]
    ]  # fmt: skip
    return Past(
        repairs=tuple(repairs),
        failures=sum(int(run["failures"]) for run in whole),
        hidden=0,
        up_s=math.fsum(float(run["watched_s"]) for run in whole),
        source=source,
        where="plan.json history",
        why_not=why_not,
    )


# ---- real incidents, as Prometheus holds them ----------------------------------------------------


def _seen(case: Case, objective: Mttr | Mtbf) -> Past:
    where = f"series/{objective.series_name}.json"
    source = f"{objective.over_s / 86_400:g} days of Prometheus"
    series = case.evidence.series.get(objective.series_name)
    why_not, states = _states(series, objective)
    if series is None or why_not:
        return Past((), 0, 0, 0.0, source, where, why_not)
    step_s = series.step_s
    states = _without_game_days(case, series, states)
    ours_s = step_s * states.count(_GAME_DAY)
    missing_s = step_s * states.count(None)
    if missing_s > (1 - SEEN_MIN) * objective.over_s:
        why_not = f"of {source} {long(missing_s)} are missing"
    elif ours_s > OURS_MAX * objective.over_s:
        why_not = f"of {source} {long(ours_s)} were game days, which say nothing of incidents"
    repairs, failures, hidden, hidden_s = _incidents(states, step_s)
    up_s = step_s * states.count(False)
    return Past(repairs, failures, hidden, up_s, source, where, why_not, hidden_s)


#: In place of a state: this run's kind of failure, made on purpose.
_GAME_DAY = "game day"
_State: TypeAlias = bool | str | None


def _states(series: Series | None, objective: Mttr | Mtbf) -> tuple[str, list[_State]]:
    """Why nothing can be told, or for each step whether an incident lasted (None: not known)."""
    if series is None:
        return "Prometheus was not asked for incidents", []
    if series.status != "success" or series.error:
        return f"Prometheus gave no answer: {series.error or series.status}", []
    if series.warnings:
        return f"Prometheus answered in part: {'; '.join(series.warnings)}", []
    if len(series.result) != 1:
        n = len(series.result)
        return f"the expression gave {n} series instead of one: {objective.incidents}", []
    count = math.floor((series.end - series.start) / series.step_s + 1e-9) + 1
    if count * series.step_s < objective.over_s:
        return "Prometheus was asked for less than the time wanted", []
    states: list[_State] = [None] * count
    for t, text in series.result[0].points:
        index = round((t - series.start) / series.step_s)
        value = finite(text)
        if value is not None and 0 <= index < count:
            states[index] = value > 0
    return "", states


def _without_game_days(case: Case, series: Series, states: Sequence[_State]) -> list[_State]:
    """Steps in which an earlier run made failures itself are nobody's."""
    found = list(states)
    for run in earlier_runs(case):
        begin = math.floor((float(run["started_t"]) - series.start) / series.step_s)
        end = math.ceil((float(run["ended_t"]) - series.start) / series.step_s) + 1
        for index in range(max(0, begin), min(len(found), end + 1)):
            found[index] = _GAME_DAY
    return found


def _incidents(
    states: Sequence[_State], step_s: float
) -> tuple[tuple[Repair, ...], int, int, float]:
    """Repairs, failures that were seen to begin, those that may have begun unseen, and how long
    at most those lasted of which nothing is in a repair."""
    repairs: list[Repair] = []
    failures = 0
    stretches = list(_stretches(states))
    holes = {index for index, (state, _) in enumerate(stretches) if state is None}
    hidden = set(holes)
    seen_up = False
    for index, (state, length) in enumerate(stretches):
        before = stretches[index - 1][0] if index else None
        after = stretches[index + 1][0] if index + 1 < len(stretches) else None
        if state in (False, _GAME_DAY):
            seen_up = state is False
        if state is not True:
            continue
        if before is False:
            failures += 1
        elif index == 0 or before == _GAME_DAY:
            # It began before anybody looked, or is what a game day left behind.
            continue
        beside = holes & {index - 1, index + 1}
        hidden -= beside
        gap_s = step_s * sum(stretches[at][1] for at in beside)
        # A step belongs to an incident if any moment of it does, as far as it was looked at.
        low_s, high_s = max(0.0, (length - 2) * step_s), (length + 1) * step_s + gap_s
        # Behind a hole with which watching began, it may be older than the hole: not a whole one.
        repairs.append(Repair(low_s, high_s, ended=seen_up and after is False))
    # Before the first look and after the last there was less of a past, not a hole in it.
    inside = hidden - {0, len(stretches) - 1}
    hidden_s = step_s * sum(stretches[at][1] + 1 for at in inside)
    return tuple(repairs), failures, len(holes), hidden_s


def _stretches(states: Sequence[_State]) -> Iterator[tuple[_State, int]]:
    for state, same in itertools.groupby(states):
        yield state, len(list(same))


def long(seconds: float | None) -> str:
    """``12.3 s``, ``14 min``, ``31.5 h`` or ``90 days``."""
    if seconds is None or seconds == math.inf:
        return "any time"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / 60:.1f} min"
    if seconds < 96 * _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _HOUR_S:.0f} h ({seconds / 86_400:.1f} days)"
