"""Alerts of a simulated day: what Prometheus and Alertmanager say of them, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.evidence.deliveries import DELIVERY, SOURCE, STARTED, UNREADABLE, fingerprint
from harness.plan import model
from harness.plan.model import Plan
from harness.selftest.course import Course, Day, after
from harness.selftest.world import Alert

#: Receivers listen from then on.
LISTENS_S = -1.5
_NEVER = float("inf")


def alerts_of(plan: Plan) -> tuple[model.Alert, ...]:
    """The objectives that say which alert a fault must raise."""
    return tuple(o for o in plan.objectives if isinstance(o, model.Alert))


@dataclass(frozen=True)
class _Time:
    """One alert from when it fires until it is over, at each link of its way."""

    labels: dict[str, str]
    pending_s: float
    fires_s: float
    taken_s: float
    told_s: float
    resolves_s: float
    end_told_s: float
    suppressed: bool
    receivers: tuple[str, ...]
    by_title: tuple[str, ...] = ()


class Alerting:
    """All alerts of a day, and the receivers."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.receivers = tuple(sorted(day.plan.receivers))
        self.times = [*self._expected(), *self._others()] if day.plan.watches_alerts else []

    # ---- what happens ----------------------------------------------------------------------

    def _expected(self) -> Iterator[_Time]:
        for objective in alerts_of(self.day.plan):
            chosen = objective.selector
            way = self.day.world.alert_of(chosen.name)
            labels = {"alertname": chosen.name, "severity": "critical", **chosen.labels}
            for fault in self.day.faults:
                if fault.hits and fault.name in objective.faults:
                    first = self._time(way, labels, fault)
                    yield first
                    again_s = after(first.resolves_s, way.again_s)
                    if again_s < _NEVER:
                        yield self._way(way, labels, again_s, again_s, _NEVER)

    def _time(self, way: Alert, labels: dict[str, str], fault: Course) -> _Time:
        return self._way(
            way,
            labels,
            after(fault.landed_s, way.pending_s),
            after(fault.landed_s, way.fires_s),
            after(fault.undo_done_s, way.resolves_s),
        )

    def _way(
        self, way: Alert, labels: dict[str, str], pending_s: float, fires_s: float, ends_s: float
    ) -> _Time:
        taken_s = after(fires_s, way.taken_s)
        over_s = after(ends_s, way.taken_s)
        return _Time(
            labels=labels,
            pending_s=min(pending_s, fires_s),
            fires_s=fires_s,
            taken_s=taken_s,
            told_s=_NEVER if way.suppressed else after(taken_s, way.told_s),
            resolves_s=ends_s,
            end_told_s=_NEVER if way.suppressed else after(over_s, way.end_told_s),
            suppressed=way.suppressed,
            receivers=tuple(name for name in self.receivers if name not in way.untold),
            by_title=way.by_title,
        )

    def _others(self) -> Iterator[_Time]:
        for other in self.day.world.others:
            start_s, end_s = self.day.between(other)
            labels = {"alertname": other.name, "severity": "warning"}
            told = self.receivers if other.told else ()
            yield _Time(labels, start_s, start_s, start_s + 0.1, start_s + 0.6, end_s, end_s + 0.6,
                        False, told)  # fmt: skip

    # ---- what is seen of it ------------------------------------------------------------------

    def observers(self) -> dict[str, dict[str, list[tuple[float, Any]]]]:
        """observer → subject → (from when, what is true of it)."""
        if not self.day.plan.watches_alerts:
            return {}
        rules: dict[str, list[tuple[float, Any]]] = {}
        manager: dict[str, list[tuple[float, Any]]] = {}
        for time in self.times:
            ends_s = time.resolves_s
            _add(rules, f"alert:{_subject(time.labels)}", [
                (time.pending_s, "pending"), (time.fires_s, "firing"), (ends_s, "inactive"),
            ])  # fmt: skip
            if time.taken_s < _NEVER:
                held = "suppressed" if time.suppressed else "active"
                _add(manager, f"alertmanager:{_subject(time.labels)}", [
                    (time.taken_s, held), (ends_s + (time.taken_s - time.fires_s), "resolved"),
                ])  # fmt: skip
        listening = [(LISTENS_S, "listening")]
        heard = {f"receiver:{name}": listening for name in self.receivers}
        return {"alerts": rules, "alertmanager": manager, "receivers": heard}

    def told(self) -> Iterator[tuple[float, str, str, dict[str, Any]]]:
        """Lines of the receivers."""
        for name in self.receivers:
            kind = {"receiver": name, "receiver_kind": "webhook"}
            yield LISTENS_S, SOURCE + name, STARTED, kind
        for number, time in enumerate(self.times):
            for name in time.receivers:
                for at_s, status in ((time.told_s, "firing"), (time.end_told_s, "resolved")):
                    if at_s < _NEVER and at_s >= LISTENS_S:
                        yield at_s, SOURCE + name, DELIVERY, _message(time, name, status, number)
        for garbled in self.day.world.garbled:
            at_s, _ = self.day.between(garbled)
            said = {"receiver": garbled.receiver, "why": "no JSON", "size_bytes": 12}
            yield at_s, SOURCE + garbled.receiver, UNREADABLE, said


def _message(time: _Time, receiver: str, status: str, number: int) -> dict[str, Any]:
    titled = receiver in time.by_title
    labels = {"alertname": time.labels["alertname"]} if titled else time.labels
    return {
        "receiver": receiver,
        "receiver_kind": "webhook",
        "message": number + 1,
        "status": status,
        "fingerprint": "" if titled else fingerprint(labels),
        "known_by": "title" if titled else "fingerprint",
        "labels": labels,
        "group": f"{{}}:{{alertname={time.labels['alertname']!r}}}",
    }


def _subject(labels: dict[str, str]) -> str:
    rest = ",".join(f"{k}={v}" for k, v in sorted(labels.items()) if k != "alertname")
    return f"{labels['alertname']}/{rest}"


def _add(
    to: dict[str, list[tuple[float, Any]]], subject: str, changes: list[tuple[float, Any]]
) -> None:
    to.setdefault(subject, []).extend(change for change in changes if change[0] < _NEVER)
    to[subject].sort(key=lambda change: change[0])
