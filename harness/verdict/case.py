"""Plan and evidence side by side, with the look-ups every check needs.

A case holds no opinion: which seconds belong to a phase, what an observer last saw and
whether it was looking at all.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from harness.evidence.model import Evidence, FaultRecord, PhaseSpan, Sighting
from harness.plan.model import Plan
from harness.verdict.counts import BySecond, Counts

#: Heartbeats come every 5 s; an observer silent for three of them was not looking.
BEAT_SILENCE_S = 15.0
UNKNOWN = "unknown"
#: What is further from the traffic is no instant of its run, whatever wrote it down.
_NEAR_S = 3600.0
#: Observers that are not called as the subjects they watch.
_OBSERVERS = {"db": "databases", "hpa": "autoscalers"}


@dataclass(frozen=True)
class Scope:
    """What a fault takes away. ``kind``: pods, service (all pods of it in some clusters), zone,
    region, delivery (nothing: a version is delivered) or other."""

    kind: str
    zones: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


class Case:
    """One run to be judged."""

    def __init__(self, plan: Plan, evidence: Evidence) -> None:
        self.plan = plan
        self.evidence = evidence

    @cached_property
    def by_second(self) -> BySecond:
        return BySecond(self.evidence.tallies)

    @cached_property
    def target(self) -> dict[str, Any]:
        """The target as recorded when the run began, else as the plan names it."""
        described = self.plan.recorded.get("target_description")
        if isinstance(described, dict):
            return described
        names = self.plan.target
        return {"service": names.service, "primary": names.primary, "standby": names.standby}

    @cached_property
    def scrape_interval_s(self) -> float:
        value = self.target.get("scrape_interval_s")
        return float(value) if isinstance(value, (int, float)) and value > 0 else 1.0

    def without(self, seconds: frozenset[int]) -> Case:
        """The same run, had nobody counted anything in ``seconds``."""
        tallies = tuple(
            dataclasses.replace(
                tally, seconds=tuple(s for s in tally.seconds if s.second not in seconds)
            )
            for tally in self.evidence.tallies
        )
        return Case(self.plan, dataclasses.replace(self.evidence, tallies=tallies))

    # ---- phases ------------------------------------------------------------------------

    @cached_property
    def _seconds(self) -> dict[str, range]:
        """Whole seconds of each phase. A second that two phases share goes to the fault,
        since the fault may have begun in it; else to the later. One that traffic shares with
        nothing (before the first, after the last) goes to nobody."""
        spans = [
            span
            for span in self.evidence.phases
            if span.end_t is not None and self.is_of_this_run(span.start_t, span.end_t)
        ]
        found: dict[str, range] = {}
        first = math.ceil(spans[0].start_t) if spans else 0
        for index, span in enumerate(spans):
            following = spans[index + 1] if index + 1 < len(spans) else None
            if following is None:
                last = after = math.floor(span.end_t or 0)
            else:
                takes = span.kind == "fault" and following.kind != "fault"
                boundary = following.start_t
                last = after = math.ceil(boundary) if takes else math.floor(boundary)
            found.setdefault(span.name, range(first, max(first, last)))
            first = after
        return found

    def seconds(self, phase: str) -> range:
        """The whole wall seconds counted to ``phase``; empty when it did not run to its end."""
        return self._seconds.get(phase, range(0))

    @cached_property
    def _counts(self) -> dict[str, Counts]:
        return {p.name: self.by_second.over(self.seconds(p.name)) for p in self.plan.phases}

    def counts(self, phase: str) -> Counts:
        """What became of the arrivals of ``phase``."""
        return self._counts[phase]

    def span(self, phase: str) -> PhaseSpan | None:
        """The phase as it ran; None when it did not, or at no time of this run."""
        found = self.evidence.phase(phase)
        if found is None:
            return None
        ends = found.start_t if found.end_t is None else found.end_t
        return found if self.is_of_this_run(found.start_t, ends) else None

    def is_of_this_run(self, *instants: float) -> bool:
        """Whether all of them lie within an hour of the seconds in which anything was counted."""
        low, high = self._near
        return all(low <= t <= high for t in instants)

    @cached_property
    def _near(self) -> tuple[float, float]:
        counted = self.by_second.seconds()
        if not counted:
            return -math.inf, math.inf
        return counted[0] - _NEAR_S, counted[-1] + _NEAR_S

    def planned_between(self, phase: str) -> float:
        """Arrivals the schedule says for the seconds of ``phase``."""
        seconds = self.seconds(phase)
        return self.due(seconds.start, seconds.stop)

    def due(self, start_t: float, end_t: float) -> float:
        """Arrivals the schedule says between two instants.

        Raises ValueError when the rate changes over time and no generator says when its
        schedule began.
        """
        traffic = self.plan.traffic
        if end_t <= start_t:
            return 0.0
        if traffic.curve.is_constant:
            return traffic.rate * (end_t - start_t)
        begun, by = self.schedules_begun, traffic.curve.arrivals_by
        # Each process sends an equal share, from a start of its own some moments apart.
        return sum(by(end_t - t) - by(start_t - t) for t in begun) / len(begun)

    def recorded_at_edges(self, phase: str) -> float:
        """Arrivals of a recording that may lie on either side of the edges of ``phase``: what it
        plans within a second is not known more closely."""
        recording, seconds = self.plan.traffic.recording, self.seconds(phase)
        if recording is None:
            return 0.0
        edges = (seconds.start, seconds.stop)
        return float(
            sum(max(recording.off_by(at - t) for t in self.schedules_begun) for at in edges)
        )

    @cached_property
    def schedules_begun(self) -> tuple[float, ...]:
        """When each generator's schedule began. Raises ValueError where none says so."""
        said = [tally.start.get("start_t") for tally in self.evidence.tallies]
        begun = tuple(float(t) for t in said if isinstance(t, (int, float)))
        if not begun:
            raise ValueError("no generator says when its schedule began")
        return begun

    # ---- faults ------------------------------------------------------------------------

    def actions(self, fault: str) -> tuple[FaultRecord, ...]:
        return self.evidence.actions(fault)

    def undo_start(self, fault: str) -> float | None:
        """When the fault began to be taken back, else the end of its phase."""
        starts = [
            action.undo_start_t
            for action in self.actions(fault)
            if action.undo_start_t is not None and self.scope(fault).kind != "pods"
            if self.is_of_this_run(action.undo_start_t)
        ]
        if starts:
            return min(starts)
        span = self.span(f"fault:{fault}")
        return span.end_t if span else None

    def scope(self, fault: str) -> Scope:
        """What the fault takes away, from its experiment's folder and its targets."""
        return self._scopes[fault]

    @cached_property
    def _scopes(self) -> dict[str, Scope]:
        return {fault.name: self._scope(fault.name) for fault in self.plan.faults}

    def _scope(self, name: str) -> Scope:
        experiment = self.plan.fault(name).experiment
        text = " ".join([experiment, *(str(sorted(a.data.items())) for a in self.actions(name))])
        zones = tuple(zone for zone in self.zones if mentions(text, zone))
        folder = experiment.rpartition("/")[0].rpartition("/")[2]
        names = self.plan.target
        if folder == "delivery":
            return Scope("delivery", zones)
        if folder.startswith("pod"):
            return Scope("pods", zones)
        if folder.startswith("service"):
            return Scope("service", zones)
        if folder.startswith("zone") and zones:
            in_name = tuple(zone for zone in zones if mentions(experiment, zone))
            return Scope("zone", in_name or zones)
        if folder.startswith("region"):
            return Scope("region", (), (names.primary,))
        if self._hits_pods(name):
            return Scope("pods", zones)
        if zones:
            return Scope("zone", zones)
        regions = tuple(r for r in (names.primary, names.standby) if mentions(text, r))
        return Scope("region", (), regions) if regions else Scope("other")

    def _hits_pods(self, fault: str) -> bool:
        targets = " ".join(t for a in self.actions(fault) for t in a.targets)
        uids = {uid for s in self.sightings("pods:") for uid in uids_of(s.value)}
        return any(uid in targets for uid in uids)

    @cached_property
    def zones(self) -> tuple[str, ...]:
        """Every zone that was named by traffic, observers or the target's description."""
        found = {c.zone for t in self.evidence.tallies for s in t.seconds for c in s.cells}
        found |= {s.subject.partition(":")[2] for s in self.sightings("targets:")}
        clusters = self.target.get("clusters")
        if isinstance(clusters, list):
            found |= {str(c.get("zone", "")) for c in clusters if isinstance(c, dict)}
        return tuple(sorted(found - {""}))

    def cluster_of(self, zone: str) -> str:
        """The cluster in ``zone``: as described, else the one of the same name."""
        clusters = self.target.get("clusters")
        for cluster in clusters if isinstance(clusters, list) else ():
            if isinstance(cluster, dict) and cluster.get("zone") == zone:
                return str(cluster.get("name", zone))
        return zone

    # ---- observers -----------------------------------------------------------------------

    def sightings(self, prefix: str) -> tuple[Sighting, ...]:
        """Sightings of every subject that begins with ``prefix``, in order."""
        return tuple(s for s in self.evidence.sightings if s.subject.startswith(prefix))

    def dns_subject(self) -> str:
        """The subject under which the service's name was watched."""
        host = urlsplit(self.plan.target.service).hostname or ""
        subjects = {s.subject for s in self.sightings("dns:")}
        return next((s for s in sorted(subjects) if host in s), f"dns:{host}")

    def first(
        self, prefix: str, holds: Callable[[dict[str, Any]], bool], after_t: float
    ) -> tuple[float, float] | None:
        """When what was seen of ``prefix`` first made ``holds`` true at or after ``after_t``.

        ``holds`` gets the last value of each subject. Returns (instant, uncertainty_s).
        """
        state: dict[str, Any] = {}
        sightings = self.sightings(prefix)
        for sighting in sightings:
            if sighting.t < after_t:
                state[sighting.subject] = sighting.value
        if state and holds(state):
            return after_t, 0.0
        for sighting in sightings:
            if sighting.t >= after_t:
                state[sighting.subject] = sighting.value
                if holds(state):
                    earliest = min(sighting.uncertainty_s, max(0.0, sighting.t - after_t))
                    return sighting.t, earliest
        return None

    def last(self, subject: str, at_t: float) -> Any:
        """The value of ``subject`` at ``at_t``, or None if it had not been seen by then."""
        value = None
        for sighting in self.evidence.seen(subject):
            if sighting.t <= at_t:
                value = sighting.value
        return value

    def not_watched(self, prefix: str, start_t: float, end_t: float) -> str:
        """Why ``prefix`` was not watched from ``start_t`` to ``end_t``; empty if it was."""
        sightings = self.sightings(prefix)
        if not sightings:
            return f"nobody watched {prefix}"
        stem = prefix.partition(":")[0]
        for source in sorted(self._unheard):
            if source.startswith(f"watch/{_OBSERVERS.get(stem, stem)}"):
                return f"nothing of {source} is recorded"
        for source in sorted({s.source for s in sightings}):
            if any(gap.source == source for gap in self.evidence.gaps):
                return f"evidence of {source} is incomplete"
            quiet = self.silence(source, start_t, end_t)
            if quiet:
                return quiet
        for subject in sorted({s.subject for s in sightings}):
            blind = [s.t for s in self.evidence.seen(subject) if s.value == UNKNOWN]
            if any(start_t <= t <= end_t for t in blind) or self.last(subject, start_t) == UNKNOWN:
                return f"{subject} could not be seen for a time"
        return ""

    @cached_property
    def observers(self) -> set[str]:
        """Sources of the observers that the run declared."""
        declared: set[str] = set()
        for event in self.evidence.of_kind("run.start"):
            names = event.data.get("observers")
            declared |= {f"watch/{n}".replace("watch/watch/", "watch/") for n in names or ()}
        return declared

    @cached_property
    def _unheard(self) -> set[str]:
        return self.observers - {event.source for event in self.evidence.events}

    def silence(self, source: str, start_t: float, end_t: float) -> str:
        """Why ``source`` was not heard of for too long around some moment from ``start_t`` to
        ``end_t``; empty if it was. A silence may have begun before, and go on after."""
        beats = [e.t for e in self.evidence.events if e.source == source and e.kind == "watch.beat"]
        before = max((t for t in beats if t <= start_t), default=start_t)
        after = min((t for t in beats if t >= end_t), default=end_t)
        for earlier, later in _pairs([before, *(t for t in beats if start_t < t < end_t), after]):
            if later - earlier > BEAT_SILENCE_S:
                return f"{source} was silent for {later - earlier:.0f} s"
        return ""


def _pairs(instants: list[float]) -> Iterator[tuple[float, float]]:
    return itertools.pairwise(instants)


def mentions(text: str, name: str) -> bool:
    """Whether ``name`` stands in ``text`` as a name of its own (not within a longer one)."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text) is not None


def uids_of(value: Any) -> frozenset[str]:
    """The pod uids in a ``pods:`` sighting."""
    uids = value.get("uids") if isinstance(value, dict) else None
    return frozenset(str(uid) for uid in uids) if isinstance(uids, list) else frozenset()


def finite(text: str) -> float | None:
    """The value of a sample of Prometheus; None where it is no number, or NaN, or infinite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def number_of(value: Any, key: str) -> float | None:
    """A number inside a sighting's value, or None."""
    found = value.get(key) if isinstance(value, dict) else None
    return float(found) if isinstance(found, (int, float)) else None
