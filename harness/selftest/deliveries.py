"""Versions that are delivered on a simulated day: who meets them, and what is seen of that.

All are delivered in the first zone. Its gateway and its permission service have a Rollout each
(canary; blue/green), its file service a Deployment.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.selftest.course import DELIVERIES, Course, Day, after
from harness.selftest.world import Canary

SERIES = "requests_by_pod"
QUERY = 'sum by (service, pod) (http_requests_total{op!~"health|metrics|other|synthetic|token"})'
#: kind of a delivery → (kind of object, service)
_TO = {
    "bad": ("rollout", "gateway"),
    "good": ("rollout", "gateway"),
    "switch": ("rollout", "permission"),
    "rolling": ("deployment", "file"),
}
_OLD = "aaaa"
_WANTED = 2
#: A range query's answer of an instant was scraped so long before, and is given so often.
_SCRAPED_BEFORE_S, STEP_S = 0.4, 1.0
_NEVER = math.inf


class Window(NamedTuple):
    """Per cent of a service's users that a version serves from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    share: float
    pod: str
    version: Canary | None


class Deliveries:
    """All versions delivered on a day."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.made = [fault for fault in day.faults if fault.kind in DELIVERIES and fault.hits]
        self.services = tuple(
            dict.fromkeys(_TO[f.kind][1] for f in day.faults if f.kind in ("bad", "good", "switch"))
        )

    def subject(self, fault: Course) -> str:
        """What it is delivered to, as observers call it."""
        kind, service = _TO[fault.kind]
        return f"{kind}:{self.day.zones[0]}/{service}"

    # ---- who meets it ----------------------------------------------------------------------

    def windows(self, service: str) -> list[Window]:
        """Who meets which version of a service when, besides the one before."""
        found: list[Window] = []
        for fault in self.made:
            if _TO[fault.kind] != ("rollout", service):
                continue
            version = self._canary(fault)
            pod = _pods(service, fault.name, 1)[0]
            steps = [*self._served(fault), (fault.undo_start_s, 0.0)]
            for (start_s, share), (next_s, _) in itertools.pairwise(steps):
                end_s = min(next_s, fault.undo_start_s)
                if share and start_s < end_s:
                    found.append(Window(start_s, end_s, share, pod, version))
        return found

    def _canary(self, fault: Course) -> Canary | None:
        return {"bad": self.day.world.bad, "good": self.day.world.good}.get(fault.kind)

    def _served(self, fault: Course) -> list[tuple[float, float]]:
        """(from when, per cent) of the users that meet it, in order."""
        version, switch = self._canary(fault), self.day.world.switch
        if version is None:
            return _that_happen([(after(fault.landed_s, switch.switched_s), switch.share)])
        real = []
        for start_s, weight in self._weights(fault, version):
            if not weight:
                real.append((start_s + version.lingers_s, 0.0))
            else:
                real.append((start_s, weight if version.share is None else version.share))
        return _that_happen(real)

    def _weights(self, fault: Course, version: Canary) -> list[tuple[float, float]]:
        """(from when, per cent) as the Rollout says it."""
        landed_s = fault.landed_s
        withdrawn_s = after(landed_s, version.withdrawn_s)
        promoted_s = after(landed_s, version.promoted_s)
        tried = [
            (after(landed_s, version.shifted_s), version.weight),
            (after(landed_s, version.then_s), version.then_weight),
        ]
        over = min((withdrawn_s, 0.0), (promoted_s, 100.0))
        steps = [step for step in tried if step[0] < over[0]]
        return _that_happen([*steps, over, (after(landed_s, version.again_s), version.weight)])

    # ---- what is seen ----------------------------------------------------------------------

    def subjects(self) -> dict[str, list[tuple[float, Any]]]:
        """subject → (from when, what is true of it)."""
        found: dict[str, list[tuple[float, Any]]] = {}
        for fault in self.day.faults:
            if fault.kind not in DELIVERIES:
                continue
            changes = found.setdefault(self.subject(fault), [(-_NEVER, self._at_rest(fault))])
            if fault.hits:
                changes += [change for change in self._changes(fault) if change[0] < _NEVER]
        return {subject: sorted(changes, key=lambda c: c[0]) for subject, changes in found.items()}

    def _at_rest(self, fault: Course) -> dict[str, Any]:
        return _deployment() if fault.kind == "rolling" else _rollout(fault, {})

    def _changes(self, fault: Course) -> Iterator[tuple[float, Any]]:
        if fault.kind == "rolling":
            yield from self._rolled(fault)
        elif fault.kind == "switch":
            yield from self._switched(fault)
        else:
            version = self._canary(fault)
            assert version is not None
            yield from self._tried(fault, version)

    def _tried(self, fault: Course, version: Canary) -> Iterator[tuple[float, Any]]:
        at_s, new = fault.landed_s, fault.name
        up_s, back_s = after(at_s, version.up_s), fault.undo_start_s
        aborted_s = min(after(at_s, version.aborted_s), after(at_s, version.withdrawn_s))
        promoted_s = after(at_s, version.promoted_s)
        weights = self._weights(fault, version)
        moments = {at_s, up_s, aborted_s, promoted_s, *(s for s, _ in weights)}
        again_s = after(at_s, version.again_s)
        for moment_s in sorted(m for m in moments if m < back_s):
            weight = [w for from_s, w in weights if from_s <= moment_s] or [0.0]
            pods = {_OLD: _WANTED} | ({new: 1} if moment_s >= up_s else {})
            given_up = aborted_s <= moment_s < again_s
            said: dict[str, Any] = {"current": new, "weight": weight[-1], "phase": "Progressing"}
            if given_up:
                said |= {"abort": True, "phase": "Degraded", "message": "RolloutAborted: it fails"}
            elif moment_s >= promoted_s:
                said |= {"stable": new, "phase": "Healthy"}
            yield moment_s, _rollout(fault, pods, **said)
        yield back_s, _rollout(fault, {_OLD: _WANTED, new: 1})
        left = {_OLD: _WANTED - version.stable_lost}
        ready = {"ready": _WANTED - version.stable_lost}
        yield after(back_s, version.gone_s), _rollout(fault, left, **ready)

    def _switched(self, fault: Course) -> Iterator[tuple[float, Any]]:
        switch, at_s, new = self.day.world.switch, fault.landed_s, fault.name
        both = {_OLD: _WANTED, new: _WANTED}
        said = {"current": new, "phase": "Progressing"}
        yield at_s, _rollout(fault, {}, **said)
        yield at_s + switch.up_s, _rollout(fault, both, **said)
        over_s, up_s = after(at_s, switch.switched_s), after(at_s, switch.given_up_s)
        if over_s < min(up_s, fault.undo_start_s):
            said |= {"active": new}
            yield over_s, _rollout(fault, both, **said)
            yield over_s + 0.5, _rollout(fault, both, **{**said, "stable": new})
        elif up_s < fault.undo_start_s:
            gone = {"abort": True, "message": "RolloutAborted: it does not start"}
            yield up_s, _rollout(fault, both, **said, **gone)
        yield fault.undo_start_s, _rollout(fault, {})

    def _rolled(self, fault: Course) -> Iterator[tuple[float, Any]]:
        rolling, at_s = self.day.world.rolling, fault.landed_s
        told = {"revision": "2", "updated": 1, "total": 3}
        yield at_s, _deployment(**{**told, "updated": 0})
        yield at_s + rolling.first_s, _deployment(**told, available=rolling.fewest)
        complete_s = after(at_s, rolling.complete_s)
        if complete_s < fault.undo_start_s:
            yield complete_s, _deployment(revision="2")
        yield fault.undo_start_s + 0.5, _deployment(revision="3")


def _that_happen(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted(step for step in steps if step[0] < _NEVER)


def _pods(service: str, version: str, count: int) -> list[str]:
    return [f"{service}-{version}-{n}" for n in range(count)]


def old_pods(service: str) -> list[str]:
    """The pods of the version before."""
    return _pods(service, _OLD, _WANTED)


def _rollout(fault: Course, pods: dict[str, int], **changes: Any) -> dict[str, Any]:
    """A Rollout as the observer of deliveries writes it: at rest, changed so."""
    service, blue_green = _TO[fault.kind][1], fault.kind == "switch"
    value: dict[str, Any] = {
        "strategy": "blueGreen" if blue_green else "canary",
        "observed": True,
        "phase": "Healthy",
        "message": None,
        "abort": False,
        "step": 0,
        "weight": None if blue_green else 0.0,
        "current": _OLD,
        "stable": _OLD,
        "active": _OLD if blue_green else None,
        "paused": [],
        "wanted": _WANTED,
        "updated": _WANTED,
        "ready": _WANTED,
        "analysis": None,
        "pods": {
            version: _pods(service, version, count)
            for version, count in (pods or {_OLD: _WANTED}).items()
        },
    }
    return {**value, **changes, **({"weight": None} if blue_green else {})}


def _deployment(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "observed": True,
        "revision": "1",
        "wanted": _WANTED,
        "updated": _WANTED,
        "available": _WANTED,
        "total": _WANTED,
        "least": _WANTED,
    }
    return {**value, **changes}


def series(day: Day, served: dict[str, list[float]], t0: float, begin_s: float) -> dict[str, Any]:
    """The content of ``requests_by_pod.json``; ``served``: pod → when it answered."""
    said = day.world.prometheus
    missed = [day.between(window) for window in said.missed]
    end_s = day.end_s + 3.0
    result = []
    for pod in sorted(served):
        instants, points = sorted(served[pod]), []
        for n in range(int((end_s - begin_s) / STEP_S) + 1):
            at_s = begin_s + n * STEP_S
            # The instants of an answer are Prometheus's own.
            scraped_s = at_s - said.offset_s - _SCRAPED_BEFORE_S
            count = bisect.bisect_right(instants, scraped_s)
            hidden = any(start_s <= at_s < stop_s for start_s, stop_s in missed)
            if not hidden and (count or pod in old_pods(pod.partition("-")[0])):
                points.append([round(t0 + at_s, 3), said.value or str(round(said.counts * count))])
        if points:
            labels = {"service": pod.partition("-")[0], "pod": pod}
            result.append({"labels": labels, "points": points})
    return {
        "name": SERIES,
        "query": QUERY,
        "step_s": STEP_S,
        "start": t0 + begin_s,
        "end": t0 + end_s,
        "status": "error" if said.error else "success",
        "warnings": [said.warning] if said.warning else [],
        "fetched_t": t0 + day.end_s + 4.0,
        "error": said.error or None,
        "result": [] if said.error or said.empty else result,
    }
