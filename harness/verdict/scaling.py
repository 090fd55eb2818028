"""Whether a service was given the pods that a surge asked for, in time, and gave them back.

The surge is that of the plan's own rate. What it asks for is worked out here, from the load that
the autoscaler measured and the target that it was given, by the formula of the Kubernetes
documentation (HorizontalPodAutoscaler, "Algorithm details"): an autoscaler that sees its load and
does nothing is not believed. Pods are counted where they are seen, not where they are promised.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.evidence.model import Sighting
from harness.plan.model import Scaling
from harness.plan.rates import Curve
from harness.verdict.case import UNKNOWN, Case, number_of
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most

#: The part of the surge's arrivals that must really have been sent.
MIN_SENT = 0.95
#: Whoever answered this share of the surge, or more, took part in it.
MIN_SHARE = 0.1
#: The part of the surge in which the load must have been seen.
MIN_SEEN = 0.5
_EVIDENCE = ("history.jsonl sighting hpa:, pods:", "tallies/")


@dataclass(frozen=True)
class Surge:
    """When it began and ended, each within ``(low, high)``: generators start moments apart."""

    start: tuple[float, float]
    end: tuple[float, float]
    why_not: str = ""

    @property
    def seconds(self) -> range:
        """The whole seconds that surely lie in it."""
        return range(math.ceil(self.start[1]), math.floor(self.end[0]))


def surge_of(case: Case) -> Surge:
    """The surge of the run, and why it proves nothing, if it does not."""
    nothing = (0.0, 0.0)
    curve = case.plan.traffic.curve
    planned = curve.surge_s if isinstance(curve, Curve) else None
    if planned is None:
        return Surge(nothing, nothing, "the plan has no surge")
    try:
        begun = case.schedules_begun
    except ValueError as error:
        return Surge(nothing, nothing, f"when the surge came is not known: {error}")
    low, high = min(begun), max(begun)
    surge = Surge((low + planned[0], high + planned[0]), (low + planned[1], high + planned[1]))
    return Surge(surge.start, surge.end, _never_came(case, surge))


def _never_came(case: Case, surge: Surge) -> str:
    ends_t = watched_to(case)
    if not case.is_of_this_run(*surge.start, *surge.end):
        return "the surge came at no time of this run"
    if ends_t is None or ends_t < surge.end[1]:
        return "the run ended before the surge did"
    due, sent = case.due(surge.seconds.start, surge.seconds.stop), case.by_second.over(
        surge.seconds
    ).sent  # fmt: skip
    if not due or sent < MIN_SENT * due:
        return f"the surge never came: {sent} of {due:.0f} arrivals were sent"
    return ""


def watched_to(case: Case) -> float | None:
    """When the last phase ended; None when one did not."""
    spans = [case.span(phase.name) for phase in case.plan.phases]
    ends = [span.end_t for span in spans if span is not None and span.end_t is not None]
    return max(ends) if len(ends) == len(spans) else None


class Scaled:
    """One autoscaler of a service and its pods, through the surge."""

    def __init__(self, case: Case, surge: Surge, subject: str, service: str) -> None:
        self.case, self.surge, self.subject = case, surge, subject
        self.cluster = subject.partition(":")[2].partition("/")[0]
        self.pods_subject = f"pods:{self.cluster}/{service}"

    def value(self, at_t: float) -> Any:
        """What was seen of the autoscaler at ``at_t``."""
        return self.case.last(self.subject, at_t)

    def pods(self, key: str, at_t: float) -> float | None:
        """Pods ``ready`` or in ``total`` at ``at_t``."""
        return number_of(self.case.last(self.pods_subject, at_t), key)

    def unwatched(self, start_t: float, end_t: float) -> str:
        """Why what happened between two instants is not known; empty if it is."""
        for subject in (self.subject, self.pods_subject):
            quiet = self.case.not_watched(subject, start_t, end_t)
            if quiet:
                return quiet
        said = (
            (self.subject, "desired"),
            (self.pods_subject, "ready"),
            (self.pods_subject, "total"),
        )
        for subject, key in said:
            for sighting in self.seen(subject, start_t, end_t):
                if not math.isfinite(pods_of(sighting, key)):
                    return f"{subject} does not say how many pods are {key}"
        return ""

    @cached_property
    def before(self) -> float | None:
        """Pods there were when the surge began; None where that is not known, or they were just
        being made more or fewer."""
        at_t = self.surge.start[0]
        total, ready = self.pods("total", at_t), self.pods("ready", at_t)
        wanted = number_of(self.value(at_t), "desired")
        return total if total == ready == wanted else None

    @cached_property
    def most(self) -> float:
        return number_of(self.value(self.surge.start[0]), "most") or math.inf

    def loads(self, at_t: float) -> dict[str, tuple[float, float]]:
        """Metric → (what all pods together have of it, the target of one) as seen at ``at_t``."""
        value = self.value(at_t)
        pods = number_of(value, "current")
        metrics = value.get("metrics") if isinstance(value, dict) else None
        if pods is None or not isinstance(metrics, list):
            return {}
        found = {}
        for metric in metrics:
            each, target = number_of(metric, "value"), number_of(metric, "target")
            if each is not None and target:
                found[str(metric.get("name"))] = (pods * each, target)
        return found

    @cached_property
    def load(self) -> dict[str, tuple[float, float]]:
        """Metric → (median of the load over the surge, target), of those seen for long enough."""
        seen: dict[str, list[tuple[float, float]]] = {}
        for second in self.surge.seconds:
            for name, pair in self.loads(second).items():
                seen.setdefault(name, []).append(pair)
        enough = MIN_SEEN * len(self.surge.seconds)
        return {
            name: (statistics.median(load for load, _ in pairs), pairs[-1][1])
            for name, pairs in seen.items()
            if len(pairs) >= enough
        }

    @cached_property
    def needed(self) -> float | None:
        """The fewest pods with which no metric is above its target by more than the tolerance;
        None where the load was not seen."""
        if not self.load:
            return None
        tolerance = number_of(self.value(self.surge.start[0]), "tolerance")
        above = 1.0 + (0.0 if tolerance is None else tolerance)
        counts = [math.ceil(load / (target * above) - 1e-9) for load, target in self.load.values()]
        return min(float(max(1, *counts)), self.most)

    @property
    def load_words(self) -> str:
        """``a load of 92 requests (40 per pod)``, of the metric that asks for most."""
        name, (load, target) = max(self.load.items(), key=lambda item: item[1][0] / item[1][1])
        return f"a load of {load:.3g} {name}, {target:.3g} per pod"

    @cached_property
    def why_blind(self) -> str:
        """What the autoscaler said that kept it from telling its load."""
        for second in self.surge.seconds:
            value = self.value(second)
            if isinstance(value, dict) and value.get("why"):
                return str(value["why"])
        return "no value of its metrics was seen for long enough"

    def seen(self, subject: str, start_t: float, end_t: float) -> Iterator[Sighting]:
        """Sightings between two instants in which it could be seen."""
        for sighting in self.case.evidence.seen(subject):
            if start_t <= sighting.t <= end_t and sighting.value != UNKNOWN:
                yield sighting

    # ---- out

    @cached_property
    def asked(self) -> Sighting | None:
        """When the autoscaler first asked for more than before, in the surge."""
        return next(
            (
                s
                for s in self.seen(self.subject, self.surge.start[0], self.surge.end[1])
                if pods_of(s, "desired") > (self.before or 0.0)
            ),
            None,
        )

    @cached_property
    def reached(self) -> Sighting | None:
        """When as many pods as are needed were first ready, in the surge."""
        return next(
            (
                s
                for s in self.seen(self.pods_subject, self.surge.start[0], self.surge.end[1])
                if self.needed is not None and pods_of(s, "ready") >= self.needed
            ),
            None,
        )

    @property
    def given_up(self) -> Sighting | None:
        """When the autoscaler asked for fewer than are needed, once they were there, before the
        surge was over."""
        if self.reached is None or self.needed is None:
            return None
        enough, fewer = False, None
        for sighting in self.seen(self.subject, self.surge.start[0], self.surge.end[0]):
            if pods_of(sighting, "desired") >= self.needed:
                enough = True
                if sighting.t < self.reached.t:
                    fewer = None
            # One that asked for as many, and no more when they were there, had given up by then.
            elif enough or sighting.t >= self.reached.t:
                fewer = fewer or sighting
        return fewer

    @property
    def most_ready(self) -> float:
        """The most pods that were ready at a time of the surge."""
        found = self.seen(self.pods_subject, self.surge.start[0], self.surge.end[1])
        return max((pods_of(s, "ready") for s in found), default=self.before or 0.0)

    # ---- and back

    def back(self, end_t: float) -> Sighting | None:
        """When there were no more pods than before, for good; None when that never was."""
        back = None
        for sighting in self.seen(self.pods_subject, self.surge.start[0], end_t):
            if pods_of(sighting, "total") > (self.before or 0.0):
                back = None
            elif back is None:
                back = sighting
        return back


def pods_of(sighting: Sighting, key: str) -> float:
    """Pods that a sighting says are ``ready``, in ``total`` or ``desired``; NaN if it does not."""
    found = number_of(sighting.value, key)
    return math.nan if found is None else found


def scaled_of(case: Case, surge: Surge, service: str) -> list[Scaled]:
    """Every autoscaler that was seen to scale ``service``."""
    subjects = {
        s.subject
        for s in case.sightings("hpa:")
        if isinstance(s.value, dict) and s.value.get("scales") == service
    }
    return [Scaled(case, surge, subject, service) for subject in sorted(subjects)]


def taking_part(case: Case, surge: Surge) -> set[str]:
    """Clusters that answered a noticeable share of the surge, as clients saw it."""
    answered: dict[str, int] = {}
    for cell in case.by_second.over(surge.seconds).ok_cells():
        if cell.zone:
            cluster = case.cluster_of(cell.zone)
            answered[cluster] = answered.get(cluster, 0) + cell.n
    return {c for c, n in answered.items() if n >= MIN_SHARE * sum(answered.values())}


# ---- findings ------------------------------------------------------------------------------------


def judge_scaling(case: Case, objective: Scaling) -> Iterator[Finding]:
    """Out and back in, of each autoscaler of the service that the surge concerns."""
    surge = surge_of(case)
    if surge.why_not:
        yield _out(objective, Outcome.UNKNOWN, surge.why_not)
        return
    part, found = taking_part(case, surge), scaled_of(case, surge, objective.service)
    for cluster in sorted(part - {scaled.cluster for scaled in found}):
        because = f"{cluster} answered the surge, and no autoscaler of {objective.service} was seen"
        yield _out(objective, Outcome.UNKNOWN, f"{because} there")
    concerned = [s for s in found if s.cluster in part or not part]
    for scaled in concerned:
        yield from _scaled(objective, scaled)
    if not concerned and not part:
        because = f"nobody saw an autoscaler of {objective.service}"
        yield _out(objective, Outcome.UNKNOWN, because)


def _scaled(objective: Scaling, scaled: Scaled) -> Iterator[Finding]:
    doubt = _nothing_shown(scaled)
    if doubt:
        yield _out(objective, Outcome.UNKNOWN, f"{scaled.subject}: {doubt}")
        return
    yield _scaled_out(objective, scaled)
    yield _scaled_back(objective, scaled)


def _nothing_shown(scaled: Scaled) -> str:
    """Why the surge shows nothing of this autoscaler; empty if it does."""
    start, end = scaled.surge.start, scaled.surge.end
    quiet = scaled.unwatched(start[0], end[1])
    if quiet:
        return quiet
    if scaled.before is None:
        return "how many pods there were when the surge began is not known, or was just changing"
    if scaled.needed is None:
        return f"whether the surge asked for more pods is not known: {scaled.why_blind}"
    if scaled.before >= scaled.most:
        return f"there were {scaled.before:.0f} pods before, as many as there may be"
    if scaled.needed <= scaled.before:
        return (
            f"the surge did not ask for more than the {scaled.before:.0f} pods there were "
            f"({scaled.load_words}): nothing was tried"
        )
    return ""


def _scaled_out(objective: Scaling, scaled: Scaled) -> Finding:
    """Seconds from the beginning of the surge until as many pods as it needs were ready."""
    assert scaled.before is not None
    assert scaled.needed is not None
    start, end = scaled.surge.start, scaled.surge.end
    needs = f"{scaled.needed:.0f} pods, of {scaled.before:.0f} before ({scaled.load_words})"
    needs += ", as many as there may be" if scaled.needed == scaled.most else ""
    reached, asked, given_up = scaled.reached, scaled.asked, scaled.given_up
    said = "never asked for more"
    if asked is not None:
        said = f"asked for more after {max(0.0, asked.t - start[0]):.1f} s"
    if reached is None:
        ready = f"{scaled.most_ready:.0f} ready at most in the {end[0] - start[1]:.0f} s of it"
        because = f"{scaled.subject}: the surge needs {needs}; {said}, {ready}"
        surely_s = end[0] - start[1]
        if surely_s < objective.out_within_s:
            return _out(objective, Outcome.UNKNOWN, f"{because}: too soon to tell")
        return _out(objective, Outcome.FAIL, because, Measured(None, surely_s, None, "s"))
    low = max(0.0, reached.t - reached.uncertainty_s - start[1])
    high = max(0.0, reached.t - start[0])
    because = f"{scaled.subject}: {needs} ready {low:.1f}–{high:.1f} s into the surge; {said}"
    measured = Measured(high, low, high, "s")
    if given_up is not None:
        because += f"; asked for fewer {given_up.t - start[0]:.1f} s into it, before it was over"
        return _out(objective, Outcome.FAIL, because, measured)
    return _out(objective, judge_at_most(objective.out_within_s, low, high), because, measured)


def _scaled_back(objective: Scaling, scaled: Scaled) -> Finding:
    """Seconds from the end of the surge until there were no more pods than before it."""
    end, end_t = scaled.surge.end, watched_to(scaled.case)
    assert scaled.before is not None
    assert end_t is not None
    required = f"no more pods than before within {objective.in_within_s:g} s of the surge's end"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        name, said = f"scaling back: {objective.service}", f"{scaled.subject}: {because}"
        return Finding(name, "all", outcome, measured, required, said, _EVIDENCE)

    quiet = scaled.unwatched(end[1], end_t)
    if quiet:
        return finding(Outcome.UNKNOWN, quiet)
    if scaled.most_ready <= scaled.before:
        return finding(Outcome.UNKNOWN, "it was never scaled out: there is nothing to take back")
    back = scaled.back(end_t)
    if back is None:
        left = scaled.pods("total", end_t)
        because = f"still {left:.0f} pods, {scaled.before:.0f} before the surge"
        surely_s = end_t - end[1]
        because += f", {surely_s:.0f} s after its end"
        if surely_s < objective.in_within_s:
            return finding(Outcome.UNKNOWN, f"{because}: too soon to tell")
        return finding(Outcome.FAIL, because, Measured(None, surely_s, None, "s"))
    low, high = max(0.0, back.t - back.uncertainty_s - end[1]), max(0.0, back.t - end[0])
    because = f"{scaled.before:.0f} pods as before {low:.1f}–{high:.1f} s after the surge"
    outcome = judge_at_most(objective.in_within_s, low, high)
    return finding(outcome, because, Measured(high, low, high, "s"))


def _out(
    objective: Scaling, outcome: Outcome, because: str, measured: Measured | None = None
) -> Finding:
    required = (
        f"as many pods ready as the surge needs within {objective.out_within_s:g} s of its "
        "beginning, until it is over"
    )
    return Finding(objective.text, "all", outcome, measured, required, because, _EVIDENCE)
