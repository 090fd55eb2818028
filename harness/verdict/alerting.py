"""Whether the alerts a fault must raise arrived where somebody reads them, and no others did.

The way of an alert has three links, each watched by something else: its rule fires in Prometheus,
Alertmanager takes it, a receiver gets it. When it did not arrive, the link that broke is named. A
link that nobody watched makes a finding unknown, never a pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.evidence.deliveries import SOURCE, STARTED, UNREADABLE, Delivery, deliveries, labels_of
from harness.plan.model import Alert, NoOtherAlert
from harness.plan.selector import Selector, parse_selector
from harness.verdict.case import UNKNOWN, Case
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most, worst

#: Who is asked about alerts: the observer, and the prefix of what it sees.
PROMETHEUS = ("watch/alerts", "alert:")
ALERTMANAGER = ("watch/alertmanager", "alertmanager:")
LISTENING = "receiver:"
#: Without a successful look for so long (or three of its periods) an observer was blind.
_BLIND_S = 12.0
#: An alert may arrive before the observer of Prometheus looks again.
_SEEN_LATE_S = 15.0
#: Alerts that fire always, to show that alerting works.
ALWAYS_FIRING = ("Watchdog", "DeadMansSwitch")
_SHOWN = 4
_EVIDENCE = (
    "history.jsonl sighting alert:, alertmanager:, receiver:",
    "history.jsonl alert.delivery",
)


@dataclass(frozen=True)
class Stretch:
    """A time in which an alert was in one state: begun within ``[low, high]``, ended within
    ``end`` (None: not before the record ends)."""

    state: str
    low: float
    high: float
    end: tuple[float, float] | None

    @property
    def end_high(self) -> float | None:
        return self.end[1] if self.end else None

    def lasts(self, until_t: float) -> float:
        """Seconds it surely lasted up to ``until_t``."""
        end_t = min(self.end[0], until_t) if self.end else until_t
        return max(0.0, end_t - self.high)


@dataclass(frozen=True)
class Instance:
    """One alert, by its labels, as one observer saw it."""

    labels: Mapping[str, str]
    stretches: tuple[Stretch, ...]

    def during(self, start_t: float, end_t: float, *states: str) -> tuple[Stretch, ...]:
        """The stretches in one of ``states`` that began between two instants."""
        return tuple(s for s in self.stretches if s.state in states and start_t <= s.high <= end_t)

    def fires(self, start_t: float, end_t: float) -> bool:
        """Whether it was firing at some time between two instants."""
        return any(
            stretch.end is None or stretch.end[1] >= start_t
            for stretch in self.during(-math.inf, end_t, "firing")
        )

    def at(self, t: float) -> str:
        """The state at ``t``; empty before the first."""
        known = [s.state for s in self.stretches if s.high <= t]
        return known[-1] if known else ""

    @property
    def words(self) -> str:
        """``ServiceDown{app="auth", …}``."""
        rest = ", ".join(f'{k}="{v}"' for k, v in sorted(self.labels.items()) if k != "alertname")
        name = self.labels.get("alertname", "")
        return f"{name}{{{rest}}}" if rest else name


class Alerts:
    """All that was seen of alerts in one run."""

    def __init__(self, case: Case) -> None:
        self._case = case

    @cached_property
    def in_prometheus(self) -> tuple[Instance, ...]:
        return self._instances(PROMETHEUS[1])

    @cached_property
    def in_alertmanager(self) -> tuple[Instance, ...]:
        return self._instances(ALERTMANAGER[1])

    @cached_property
    def delivered(self) -> tuple[Delivery, ...]:
        return deliveries(self._case.evidence.events)

    @cached_property
    def receivers(self) -> tuple[str, ...]:
        """Those that were to listen."""
        starts = self._case.evidence.of_kind("run.start")
        return tuple(str(n) for event in starts for n in event.data.get("receivers") or ())

    def _instances(self, prefix: str) -> tuple[Instance, ...]:
        seen: dict[str, list[Stretch]] = {}
        for sighting in self._case.sightings(prefix):
            mine = seen.setdefault(sighting.subject, [])
            low, high = sighting.t - sighting.uncertainty_s, sighting.t
            if mine:
                mine.append(dataclasses.replace(mine.pop(), end=(low, high)))
            mine.append(Stretch(str(sighting.value), low, high, None))
        return tuple(Instance(labels_of(subject), tuple(s)) for subject, s in seen.items())

    def unwatched(self, link: tuple[str, str], start_t: float, end_t: float) -> str:
        """Why a link was not watched between two instants; empty if it was."""
        source, prefix = link
        mine = [event for event in self._case.evidence.events if event.source == source]
        started = next((event for event in mine if event.kind == "watch.start"), None)
        if started is None:
            return "nobody watched " + ("alerts" if prefix == "alert:" else prefix.rstrip(":"))
        if any(gap.source == source for gap in self._case.evidence.gaps):
            return f"evidence of {source} is incomplete"
        quiet = self._case.silence(source, start_t, end_t)
        if quiet:
            return quiet
        period = started.data.get("period_s")
        limit_s = max(_BLIND_S, 3 * period) if isinstance(period, (int, float)) else _BLIND_S
        # With nothing to see yet only the counts of the polls tell that they failed.
        seen_t, answered, before_t, heard_t = started.t, 0, started.t, -math.inf
        for beat in [event for event in mine if event.kind == "watch.beat"]:
            now = _count(beat.data.get("polls")) - _count(beat.data.get("errors"))
            if now > answered:
                # At some time since the beat before, perhaps no later than that.
                seen_t, answered, heard_t = before_t, now, beat.t
            before_t = beat.t
            if seen_t < end_t and beat.t - max(seen_t, start_t) > limit_s:
                return f"{source} saw nothing for {beat.t - max(seen_t, start_t):.0f} s"
        if heard_t <= start_t:
            return f"{source} saw nothing any more"
        for instance in self._instances(prefix):
            blind = instance.during(start_t, end_t, UNKNOWN)
            if blind or instance.at(start_t) == UNKNOWN:
                return f"{prefix}{instance.words} could not be seen for a time"
        return ""

    def unheard(self, receiver: str, start_t: float, end_t: float) -> str:
        """Why what arrived at ``receiver`` is not known for sure; empty if it is."""
        started = {event.text("receiver") for event in self._case.evidence.of_kind(STARTED)}
        if receiver not in self.receivers or receiver not in started:
            return f"no receiver {receiver} was listening"
        if any(gap.source == SOURCE + receiver for gap in self._case.evidence.gaps):
            return f"the record of receiver {receiver} is incomplete"
        subject = LISTENING + receiver
        quiet = self._case.not_watched(subject, start_t, end_t)
        if quiet:
            return f"receiver {receiver} may not have been listening: {quiet}"
        if self._case.last(subject, start_t) != "listening":
            return f"receiver {receiver} was not seen listening before the fault"
        return ""

    def unreadable(self, receiver: str, start_t: float, end_t: float) -> str:
        """What arrived at ``receiver`` and could not be read, if anything did."""
        for event in self._case.evidence.of_kind(UNREADABLE):
            if event.text("receiver") == receiver and start_t <= event.t <= end_t:
                return f"a message to {receiver} could not be read: {event.text('why')}"
        return ""


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def agree(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two sets of labels may be of one alert: between Prometheus and Alertmanager labels
    are added (``external_labels``) or taken away, none is changed."""
    return a.get("alertname") == b.get("alertname") and all(
        b[name] == value for name, value in a.items() if name in b
    )


def matches(selector: Selector, delivery: Delivery) -> bool | None:
    """Whether a delivery is of a selected alert; None when its title does not tell."""
    if delivery.known_by != "title":
        return selector.selects(delivery.labels)
    if delivery.name != selector.name:
        return False
    return True if set(selector.labels.values()) <= set(delivery.words) else None


# ---- an alert that must fire -------------------------------------------------------------------


class _Way:
    """The way of one objective's alerts from the landing (``start_t``) to ``end_t``."""

    def __init__(self, alerts: Alerts, objective: Alert, landed: Landing, end_t: float) -> None:
        self.alerts, self.landed = alerts, landed
        self.selector = objective.selector
        self.within_s = objective.fires_within_s
        self.start_t, self.end_t = landed.low, end_t

    def chosen(self, instances: Iterable[Instance]) -> list[Instance]:
        return [instance for instance in instances if self.selector.selects(instance.labels)]

    def begun(self, instances: Iterable[Instance], *states: str) -> list[tuple[Instance, Stretch]]:
        """Alerts of the objective that came into one of ``states`` after the landing, in order."""
        found = [
            (instance, stretch)
            for instance in self.chosen(instances)
            for stretch in instance.during(self.start_t, self.end_t, *states)
        ]
        return sorted(found, key=lambda pair: pair[1].high)

    @cached_property
    def fired(self) -> list[tuple[Instance, Stretch]]:
        return self.begun(self.alerts.in_prometheus, "firing")

    @cached_property
    def taken(self) -> list[tuple[Instance, Stretch]]:
        return self.begun(self.alerts.in_alertmanager, "active")

    @cached_property
    def before(self) -> list[Instance]:
        """Alerts of the objective that were firing before the fault landed."""
        chosen = self.chosen(self.alerts.in_prometheus)
        return [i for i in chosen if i.at(self.start_t) == "firing"]

    def arrived(self, receiver: str, sure: bool | None = True) -> list[Delivery]:
        """Firing alerts of the objective that reached ``receiver`` after the landing."""
        told: dict[str, str] = {}
        found = []
        for delivery in self.alerts.delivered:
            if delivery.receiver != receiver or delivery.t > self.end_t:
                continue
            again = told.get(delivery.key) == "firing"
            told[delivery.key] = delivery.status
            if delivery.t < self.start_t or delivery.status != "firing" or again:
                continue
            old = any(agree(instance.labels, delivery.labels) for instance in self.before)
            if matches(self.selector, delivery) is sure and not old:
                found.append(delivery)
        return found

    def after(self, stretch: Stretch) -> str:
        return f"{max(0.0, stretch.high - self.landed.low):.1f} s after the landing"

    def seconds(self, t: float) -> tuple[float, float]:
        """How long after the landing ``t`` is, at least and at most."""
        return max(0.0, t - self.landed.high), max(0.0, t - self.landed.low)

    # ---- at one receiver

    def at(self, receiver: str) -> tuple[Outcome, Measured | None, str]:
        """What became of it at ``receiver``: outcome, seconds after the landing, why."""
        alerts, span = self.alerts, (self.start_t, self.end_t)
        doubt = alerts.unheard(receiver, *span)
        if doubt:
            return Outcome.UNKNOWN, None, doubt
        arrived = self.arrived(receiver)
        if not arrived:
            return self._not_arrived(receiver)
        first = arrived[0]
        low, high = self.seconds(first.t)
        measured = Measured(high, low, high, "s")
        outcome = judge_at_most(self.within_s, low, high)
        said = f"at {receiver} {high:.1f} s after the landing (known by its {first.known_by})"
        if outcome is Outcome.FAIL:
            return outcome, measured, f"delivered late: {said}"
        lost, unclear = self._lost(receiver, arrived)
        if unclear:
            return Outcome.UNKNOWN, measured, f"{said}; but {lost}, unless: {unclear}"
        if lost:
            return Outcome.FAIL, measured, f"{said}; but {lost}"
        if len(self.taken) > 1 and any(d.known_by == "title" for d in arrived):
            doubt = f"whether all {len(self.taken)} of them did cannot be told from their titles"
            return Outcome.UNKNOWN, measured, f"{said}; {doubt}"
        more = f", the last of {len(arrived)} {self.seconds(arrived[-1].t)[1]:.1f} s after it"
        return outcome, measured, said + (more if len(arrived) > 1 else "")

    def _not_arrived(self, receiver: str) -> tuple[Outcome, Measured | None, str]:
        alerts, span = self.alerts, (self.start_t, self.end_t)
        unclear = alerts.unreadable(receiver, *span)
        if self.arrived(receiver, sure=None):
            unclear = f"{receiver} was told of {self.selector.name}, its title not of which"
        if unclear:
            return Outcome.UNKNOWN, None, unclear
        because, broken = self._broken_link(receiver)
        if not broken:
            return Outcome.UNKNOWN, None, f"nothing arrived at {receiver}, and {because}"
        return _never(self.end_t - self.landed.high, self.within_s, because)

    def _broken_link(self, receiver: str) -> tuple[str, bool]:
        """Which link of the way to ``receiver`` broke; or, and False, why that is not known."""
        alerts, span = self.alerts, (self.start_t, self.end_t)
        name = self.selector.name
        if self.taken:
            others = [r for r in alerts.receivers if r != receiver and self.arrived(r)]
            told = f" ({', '.join(others)} got it)" if others else " (nor to any other)"
            when = self.after(self.taken[0][1])
            return f"in Alertmanager {when}, never delivered to {receiver}{told}", True
        muted = self.begun(alerts.in_alertmanager, "suppressed")
        if muted:
            return (
                f"suppressed in Alertmanager (silenced or inhibited) {self.after(muted[0][1])}",
                True,
            )
        blind = alerts.unwatched(ALERTMANAGER, *span)
        if blind:
            return blind, False
        if self.fired:
            return (
                f"fired in Prometheus {self.after(self.fired[0][1])}, never in Alertmanager",
                True,
            )
        return self._not_fired(name)

    def _not_fired(self, name: str) -> tuple[str, bool]:
        blind = self.alerts.unwatched(PROMETHEUS, self.start_t, self.end_t)
        if blind:
            return blind, False
        if self.before:
            return f"{self.before[0].words} was firing before the fault landed", False
        if self.begun(self.alerts.in_prometheus, "pending"):
            return f"the rule did not fire: {name} was only pending", True
        return f"the rule did not fire: {name} was not even pending", True

    def _lost(self, receiver: str, arrived: list[Delivery]) -> tuple[str, str]:
        """An alert that stayed for as long as the bound and was never delivered; and what may have
        told of it all the same, empty where nothing can have."""

        def stayed(found: list[tuple[Instance, Stretch]]) -> Iterator[Instance]:
            return (i for i, stretch in found if stretch.lasts(self.end_t) >= self.within_s)

        lost, unclear = "", self.alerts.unreadable(receiver, self.start_t, self.end_t)
        for instance in stayed(self.taken):
            if not any(agree(instance.labels, d.labels) for d in arrived):
                lost = f"{instance.words}, in Alertmanager too, was never delivered to {receiver}"
                break
        if lost and not unclear:
            return lost, ""
        if not self.alerts.unwatched(ALERTMANAGER, self.start_t, self.end_t):
            taken = [i.labels for i, _ in self.taken]
            for instance in stayed(self.fired):
                # No message can have told of what Alertmanager never had.
                if not any(agree(instance.labels, labels) for labels in taken):
                    never = f"{instance.words}, firing in Prometheus too, was never in Alertmanager"
                    return never, ""
        return lost, unclear if lost else ""

    def in_prometheus(self) -> tuple[Outcome, Measured | None, str]:
        """What became of it where no receiver is asked for."""
        if not self.fired:
            because, known = self._not_fired(self.selector.name)
            if not known:
                return Outcome.UNKNOWN, None, because
            return _never(self.end_t - self.landed.high, self.within_s, because)
        stretch = self.fired[0][1]
        low, high = max(0.0, stretch.low - self.landed.high), self.seconds(stretch.high)[1]
        outcome = judge_at_most(self.within_s, low, high)
        said = f"firing in Prometheus {low:.1f}–{high:.1f} s after the landing"
        return outcome, Measured(high, low, high, "s"), said


def _never(
    watched_s: float, bound_s: float, because: str, since: str = ""
) -> tuple[Outcome, Measured | None, str]:
    """What never came: a failure where it was waited for as long as it may take."""
    if watched_s < bound_s:
        return Outcome.UNKNOWN, None, f"{because}, watched for only {watched_s:.1f} s"
    return Outcome.FAIL, Measured(None, watched_s, None, "s"), because + since


def judge_fires(case: Case, objective: Alert, landed: Landing) -> Finding:
    """The alert reached every receiver in time; or where on the way it was lost."""
    phase = f"fault:{landed.fault}"
    where = f"at {', '.join(objective.receivers)}" if objective.receivers else "in Prometheus"
    required = f"{where} within {objective.fires_within_s:g} s of the landing"
    end_t = _watched_to(case, landed)
    if not landed.landed or end_t is None:
        because = landed.why_not or "the recovery was not watched to its end"
        return _finding(objective, phase, required, Outcome.UNKNOWN, because)
    alerts = Alerts(case)
    way = _Way(alerts, objective, landed, end_t)
    found = [way.at(receiver) for receiver in objective.receivers] or [way.in_prometheus()]
    outcome = worst(o for o, _, _ in found)
    because = "; ".join(dict.fromkeys(said for _, _, said in _worst_first(found)))
    if objective.receivers and way.fired and outcome is not Outcome.UNKNOWN:
        because += f"; firing in Prometheus {way.after(way.fired[0][1])}"
    if outcome is Outcome.PASS:
        links = (PROMETHEUS, ALERTMANAGER) if objective.receivers else (PROMETHEUS,)
        blind = [b for b in (alerts.unwatched(x, landed.low, end_t) for x in links) if b]
        if blind:
            outcome = Outcome.UNKNOWN
            because += f"; whether all that fired arrived is not known: {'; '.join(blind)}"
    return _finding(objective, phase, required, outcome, because, _latest(found, outcome))


def _worst_first(
    found: list[tuple[Outcome, Measured | None, str]],
) -> list[tuple[Outcome, Measured | None, str]]:
    return sorted(found, key=lambda f: [Outcome.FAIL, Outcome.UNKNOWN, Outcome.PASS].index(f[0]))


def _latest(found: list[tuple[Outcome, Measured | None, str]], outcome: Outcome) -> Measured | None:
    """Of those with this outcome the one that took longest; never is longer than any time."""
    mine = [m for o, m, _ in found if o is outcome and m is not None]
    return max(mine, key=lambda m: (m.value is None, m.high or 0.0), default=None)


def _watched_to(case: Case, landed: Landing) -> float | None:
    span = case.span(f"recovery:{landed.fault}")
    return span.end_t if span else None


def _finding(
    objective: Alert | NoOtherAlert,
    phase: str,
    required: str,
    outcome: Outcome,
    because: str,
    measured: Measured | None = None,
) -> Finding:
    return Finding(objective.text, phase, outcome, measured, required, because, _EVIDENCE)


# ---- and resolve again -------------------------------------------------------------------------


def judge_resolves(case: Case, objective: Alert, landed: Landing) -> Finding:
    """Whoever was told of the alert was told of its end, in time after the fault was taken back."""
    bound_s = objective.resolves_within_s or 0.0
    phase = f"recovery:{landed.fault}"
    where = f"told to {', '.join(objective.receivers)}" if objective.receivers else "in Prometheus"
    required = (
        f"resolved, {where}, within {bound_s:g} s of the fault being taken back, and so still"
    )
    end_t, restored = _watched_to(case, landed), _restored(case, landed.fault)
    if not landed.landed or end_t is None or restored is None:
        because = landed.why_not or "when the fault was taken back is not known"
        return _finding(objective, phase, required, Outcome.UNKNOWN, because)
    way = _Way(Alerts(case), objective, landed, end_t)
    end = _End(way, bound_s, restored)
    found = [end.at(receiver) for receiver in objective.receivers] or [end.in_prometheus()]
    outcome = worst(o for o, _, _ in found)
    because = "; ".join(dict.fromkeys(said for _, _, said in _worst_first(found)))
    return _finding(objective, phase, required, outcome, because, _latest(found, outcome))


def _restored(case: Case, fault: str) -> tuple[float, float] | None:
    """When the fault was taken back, from the first undo to the last; where there is nothing
    to take back, when its phase ended."""
    if case.scope(fault).kind == "pods":
        end_t = case.undo_start(fault)
        return None if end_t is None else (end_t, end_t)
    undone = [a for a in case.actions(fault) if a.undo is not None]
    done = [a.undo_done_t for a in undone if a.undo_done_t is not None]
    start_t = case.undo_start(fault)
    if start_t is None or len(done) < len(undone):
        return None
    return start_t, max(done, default=start_t)


class _End:
    """How the alerts of a way ended."""

    def __init__(self, way: _Way, bound_s: float, restored: tuple[float, float]) -> None:
        self.way, self.bound_s = way, bound_s
        self.low, self.high = restored

    def at(self, receiver: str) -> tuple[Outcome, Measured | None, str]:
        """How they ended for ``receiver``."""
        way = self.way
        doubt = way.alerts.unheard(receiver, way.start_t, way.end_t)
        if doubt:
            return Outcome.UNKNOWN, None, doubt
        keys = {delivery.key for delivery in way.arrived(receiver)}
        last = {
            d.key: d
            for d in way.alerts.delivered
            if d.receiver == receiver and d.key in keys and way.start_t <= d.t <= way.end_t
        }
        if not last:
            return Outcome.UNKNOWN, None, f"it never arrived at {receiver}: there is no end to tell"
        open_ = [d for d in last.values() if d.status != "resolved"]
        if open_:
            unclear = way.alerts.unreadable(receiver, way.start_t, way.end_t)
            if unclear:
                return Outcome.UNKNOWN, None, unclear
            return self._never(self._still_open(receiver, open_[0]))
        told = [d.t for d in last.values()]
        outcome, measured, because = self._ended(max(told), 0.0, f"told to {receiver}")
        unclear = way.alerts.unreadable(receiver, min(told), way.end_t)
        if outcome is Outcome.PASS and unclear:
            return Outcome.UNKNOWN, measured, f"{because}; whether for good is not known: {unclear}"
        return outcome, measured, because

    def _ended(self, t: float, uncertainty_s: float, what: str) -> tuple[Outcome, Measured, str]:
        low, high = max(0.0, t - uncertainty_s - self.high), max(0.0, t - self.low)
        outcome = judge_at_most(self.bound_s, low, high)
        late = "resolved late: " if outcome is Outcome.FAIL else ""
        when = (
            f"{high:.1f} s after the fault was taken back" if high else "before it was taken back"
        )
        return outcome, Measured(high, low, high, "s"), f"{late}resolved {when}, {what}"

    def _never(self, because: str) -> tuple[Outcome, Measured | None, str]:
        watched_s = self.way.end_t - self.high
        since = f" {watched_s:.0f} s after the fault was taken back"
        return _never(watched_s, self.bound_s, because, since)

    def _still_open(self, receiver: str, delivery: Delivery) -> str:
        """Which link kept it open."""
        way = self.way

        def state(instances: Iterable[Instance], wanted: str) -> bool:
            return any(
                agree(i.labels, delivery.labels) and i.at(way.end_t) == wanted
                for i in way.chosen(instances)
            )

        if state(way.alerts.in_prometheus, "firing"):
            return "never resolved: still firing in Prometheus"
        if state(way.alerts.in_alertmanager, "active"):
            return "never resolved: no more firing in Prometheus, still active in Alertmanager"
        return f"never resolved: its end was never told to {receiver}, not"

    def in_prometheus(self) -> tuple[Outcome, Measured | None, str]:
        way = self.way
        blind = way.alerts.unwatched(PROMETHEUS, way.start_t, way.end_t)
        if blind or not way.fired:
            return Outcome.UNKNOWN, None, blind or "it never fired: there is no end to tell"
        ends = [s.end for _, s in way.fired if s.end and s.end[1] <= way.end_t]
        if len(ends) < len(way.fired):
            return self._never("never resolved: still firing in Prometheus")
        low, high = max(ends, key=lambda end: end[1])
        return self._ended(high, high - low, "as Prometheus says")


# ---- and no other ------------------------------------------------------------------------------


def judge_no_other(case: Case, objective: NoOtherAlert, phase: str) -> Finding:
    """No alert fired or arrived in ``phase`` but those that must, and those allowed."""
    required = "no alert but those expected of the fault"
    if objective.allowed:
        required += f", and {', '.join(objective.allowed)}"
    span = case.span(phase)
    if span is None or span.end_t is None:
        return _finding(objective, phase, required, Outcome.UNKNOWN, "the phase did not run")
    alerts, wanted = Alerts(case), list(_wanted(case, objective, phase))
    others = list(_others(alerts, wanted, span.start_t, span.end_t))
    measured = Measured(float(len(others)), float(len(others)), float(len(others)), "alerts")
    if others:
        more = f"; and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        because = f"not expected: {'; '.join(others[:_SHOWN])}{more}"
        return _finding(objective, phase, required, Outcome.FAIL, because, measured)
    doubts = [
        alerts.unwatched(PROMETHEUS, span.start_t, span.end_t),
        *(alerts.unheard(name, span.start_t, span.end_t) for name in alerts.receivers),
        *(alerts.unreadable(name, span.start_t, span.end_t) for name in alerts.receivers),
    ]
    doubt = "; ".join(dict.fromkeys(d for d in doubts if d))
    if doubt:
        return _finding(objective, phase, required, Outcome.UNKNOWN, doubt)
    return _finding(objective, phase, required, Outcome.PASS, "none", measured)


def _wanted(case: Case, objective: NoOtherAlert, phase: str) -> Iterator[Selector]:
    yield from (Selector(name, {}) for name in ALWAYS_FIRING)
    yield from map(parse_selector, objective.allowed)
    fault = next((p.fault for p in case.plan.phases if p.name == phase), None)
    for other in case.plan.objectives:
        if isinstance(other, Alert) and fault in other.faults:
            yield other.selector


def _others(alerts: Alerts, wanted: list[Selector], start_t: float, end_t: float) -> Iterator[str]:
    """In words, alerts that began to fire between two instants, and those that arrived then
    though nobody saw them fire."""
    for instance in alerts.in_prometheus:
        if any(selector.selects(instance.labels) for selector in wanted):
            continue
        for stretch in instance.stretches:
            if stretch.state == "firing" and start_t <= stretch.low < end_t:
                yield f"{instance.words} {stretch.high - start_t:.1f} s into the phase"
    told: dict[tuple[str, str], Delivery] = {}
    for delivery in alerts.delivered:
        key = (delivery.receiver, delivery.key)
        before, told[key] = told.get(key), delivery
        again = before is not None and before.status == "firing"
        # Told of its end before, one that ended by then is not the one told of now.
        since_t = before.t if before else -math.inf
        seen = any(
            agree(instance.labels, delivery.labels)
            and instance.fires(since_t, delivery.t + _SEEN_LATE_S)
            for instance in alerts.in_prometheus
        )
        unwanted = all(matches(selector, delivery) is False for selector in wanted)
        new = delivery.status == "firing" and not again and start_t <= delivery.t < end_t
        if new and unwanted and not seen:
            said = Instance(delivery.labels, ()).words
            yield f"{said} at {delivery.receiver} {delivery.t - start_t:.1f} s into the phase"
