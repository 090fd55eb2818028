"""What a game day is, as immutable values.

A plan says what is done (traffic, faults, phases) and what must hold (objectives).
Durations are in seconds, rates in arrivals per second, percentages are kept as
fractions (``0.999``). A plan survives ``to_json`` → ``from_json`` unchanged, with the
text it was read from, because the judge reads it from the run folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from harness.plan.guards import Guard
from harness.plan.rates import Curve, constant
from harness.plan.recording import Recording
from harness.plan.selector import Selector, parse_selector
from harness.plan.shapes import parse_rate

PhaseKind = Literal["baseline", "fault", "recovery", "cool-down"]
Arrivals = Literal["poisson", "even", "recorded"]
#: Where traffic enters the target: at the service itself, or at the CDN in front of it.
Entry = Literal["origin", "edge"]


@dataclass(frozen=True)
class Phase:
    """One stretch of a run. ``name`` is as in ``in:`` of an objective."""

    name: str
    kind: PhaseKind
    fault: str | None
    duration_s: float


@dataclass(frozen=True)
class TargetNames:
    """What is tested, by the names clients use; and the AWS account and the clusters, where the
    plan says them: a target that is described otherwise is not the one meant."""

    service: str
    primary: str
    standby: str
    account: str = ""
    clusters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traffic:
    """Open arrivals: ``rate`` per second, shared among operations by ``mix`` (shares).

    ``shape``, if it is not empty, says in words how the rate goes over time
    (:mod:`harness.plan.shapes`); ``rate`` is then its peak. With a ``recording`` that decides
    what is sent and when, and ``rate`` is its fullest second.
    """

    locustfile: str
    rate: float
    arrivals: Arrivals
    seed: int
    mix: Mapping[str, float]
    timeout_s: float
    #: fields of :class:`~harness.plan.behaviour.Behaviour` that the plan sets
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    shape: str = ""
    #: generator processes; ``auto`` until it is known how many the rate needs
    workers: int | Literal["auto"] = 1
    entry: Entry = "origin"
    recording: Recording | None = None

    @cached_property
    def curve(self) -> Curve | Recording:
        """Planned arrivals per second over time, from the start of the traffic on."""
        if self.recording is not None:
            return self.recording
        return parse_rate(self.shape) if self.shape else constant(self.rate)

    @property
    def rate_words(self) -> str:
        """For people: ``200 requests/s``, the words of its shape, or what is replayed; and where
        it enters."""
        words = self.shape or f"{self.rate:g} requests/s"
        if self.recording is not None:
            words = self.recording.words
        return f"{words} through the edge" if self.entry == "edge" else words

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; what is not used is left out."""
        unused = {"shape": "", "behaviour": {}, "workers": 1, "entry": "origin"}
        fields = _fields(self).items()
        found = {key: value for key, value in fields if value != unused.get(key)}
        if self.recording is not None:
            found["recording"] = self.recording.to_json()
        return found


@dataclass(frozen=True)
class Fault:
    """One experiment, held for ``hold_s``, then watched for ``recovery_s``.

    Each of its actions may hit ``at_most`` targets and this ``share`` of those there are; None:
    as many as the experiment allows.
    """

    name: str
    experiment: str
    hold_s: float
    recovery_s: float
    title: str = ""
    sha256: str = ""
    at_most: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class _InPhases:
    """An objective judged once per phase named. ``text`` is the user's own wording.

    Some count only the arrivals of the ``operations`` named; none named means all of them.
    """

    text: str
    phases: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class _OfFaults:
    """An objective judged once per fault named."""

    text: str
    faults: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Alert(_OfFaults):
    """An alert reaches each receiver within ``fires_within_s`` of the landing, and its end does
    within ``resolves_within_s`` of the fault being taken back (None: not asked).

    Without receivers it need only fire in Prometheus.
    """

    kind: ClassVar[str] = "alert"
    alert: str
    fires_within_s: float
    receivers: tuple[str, ...] = ()
    resolves_within_s: float | None = None

    @property
    def selector(self) -> Selector:
        """Which alerts are meant."""
        return parse_selector(self.alert)


@dataclass(frozen=True)
class NoOtherAlert(_InPhases):
    """No alert fires but those another objective expects of the fault, and those ``allowed``."""

    kind: ClassVar[str] = "alerts"
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Availability(_InPhases):
    """At least this fraction of the planned arrivals succeeded, or, where ``degraded`` answers
    count, were answered as the service declares to degrade."""

    kind: ClassVar[str] = "availability"
    at_least: float
    operations: tuple[str, ...] = ()
    degraded: bool = False


@dataclass(frozen=True)
class ErrorRate(_InPhases):
    """Less than this fraction of the arrivals sent failed or may have failed."""

    kind: ClassVar[str] = "error rate"
    below: float
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency(_InPhases):
    """At least ``fraction`` of the answers took no longer than ``below_s`` seconds; ``degraded``
    as for availability."""

    kind: ClassVar[str] = "latency"
    fraction: float
    below_s: float
    operations: tuple[str, ...] = ()
    degraded: bool = False


@dataclass(frozen=True)
class Throughput(_InPhases):
    """At least this fraction of the planned arrivals was answered successfully per second, and
    at least ``at_least_per_s`` a second."""

    kind: ClassVar[str] = "throughput"
    at_least: float
    operations: tuple[str, ...] = ()
    at_least_per_s: float = 0.0


@dataclass(frozen=True)
class ErrorBudget(_InPhases):
    """The phases together spent at most this fraction of what ``slo`` allows in ``period_s``.

    Bad is an arrival that did not succeed; where ``within_s`` is above zero, not within it.
    """

    kind: ClassVar[str] = "error budget"
    at_most: float
    slo: float
    period_s: float
    within_s: float = 0.0
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class BurnRate(_InPhases):
    """At no second was the error budget of ``slo`` being spent ``below`` times as fast as it
    lasts, or faster, in every one of the windows that end there (the longest first)."""

    kind: ClassVar[str] = "burn rate"
    below: float
    windows_s: tuple[float, ...]
    slo: float
    within_s: float = 0.0
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recovery(_OfFaults):
    """The service is good again, and stays so, within this many seconds of the landing."""

    kind: ClassVar[str] = "recovery"
    within_s: float


@dataclass(frozen=True)
class Failover(_OfFaults):
    """The standby region serves, reads and writes, within this many seconds of the landing."""

    kind: ClassVar[str] = "failover"
    within_s: float


@dataclass(frozen=True)
class Failback(_OfFaults):
    """The primary region serves again within this many seconds of its restoration."""

    kind: ClassVar[str] = "failback"
    within_s: float


@dataclass(frozen=True)
class Degradation(_OfFaults):
    """From ``within_s`` after the landing until the fault is taken back, at least this fraction of
    the arrivals of ``operations`` is answered, if with less than was asked for and saying so; and
    with nothing less any more from ``whole_within_s`` after that.

    ``breaker`` is PromQL, each series of which is above zero as long as a circuit breaker is not
    closed: one opens and all are closed again within the same times. Empty: nobody asks.
    """

    kind: ClassVar[str] = "degradation"
    operations: tuple[str, ...]
    within_s: float
    at_least: float
    whole_within_s: float
    breaker: str = ""

    @property
    def series_name(self) -> str:
        """The series in which the answer to ``breaker`` is kept; empty where there is none."""
        digest = hashlib.sha256(self.breaker.encode()).hexdigest()
        return f"breaker-{digest[:12]}" if self.breaker else ""


@dataclass(frozen=True)
class Durability(_OfFaults):
    """No acknowledged upload is missing or altered afterwards, save within ``rpo_s``.

    ``strict``: nor is one there twice, nor an acknowledged delete undone. With a ``confidence``
    (0 to 1) a fraction ``at_most`` may be lost, and a sample may show it.
    """

    kind: ClassVar[str] = "durability"
    rpo_s: float
    strict: bool = False
    at_most: float = 0.0
    confidence: float = 0.0


@dataclass(frozen=True)
class Agreement(_InPhases):
    """Client and Prometheus count the same, within this fraction."""

    kind: ClassVar[str] = "agreement"
    within: float


@dataclass(frozen=True)
class Canary(_OfFaults):
    """A new version tried on some users ``ends`` withdrawn or promoted within this many seconds:
    withdrawn counted from the first request it served, promoted from its delivery."""

    kind: ClassVar[str] = "canary"
    ends: Literal["withdrawn", "promoted"]
    within_s: float


@dataclass(frozen=True)
class BlueGreen(_OfFaults):
    """All users are switched to the new version within this many seconds of its delivery, and
    no request fails for it."""

    kind: ClassVar[str] = "blue/green"
    within_s: float


@dataclass(frozen=True)
class RollingUpdate(_OfFaults):
    """Every pod is of the new version within this many seconds of its delivery, and enough were
    available all the while."""

    kind: ClassVar[str] = "rolling update"
    within_s: float


@dataclass(frozen=True)
class Regression(_InPhases):
    """A figure (p50, p95, p99, availability, error rate) is at most this much worse than in the
    last ``runs`` green runs of the same plan: ``at_most`` of it for a latency, else of the
    arrivals."""

    kind: ClassVar[str] = "regression"
    figure: str
    at_most: float
    runs: int


@dataclass(frozen=True)
class Scaling:
    """The autoscaler of ``service`` has as many pods ready as the surge of the traffic asks for
    within ``out_within_s`` of its beginning, and no more than before within ``in_within_s`` of its
    end. Judged once: the surge is when the planned rate is above the one it began with."""

    kind: ClassVar[str] = "scaling"
    text: str
    line: int
    service: str
    out_within_s: float
    in_within_s: float


@dataclass(frozen=True)
class _OfHistory:
    """An objective judged once, by what happened before this run and never by it.

    By earlier game days on the same target; or, where ``incidents`` is a PromQL expression that
    is above zero as long as an incident lasts, by the ``over_s`` seconds before this run.
    """

    text: str
    line: int

    @property
    def series_name(self) -> str:
        """The series in which the answer to ``incidents`` is kept; empty where there is none."""
        incidents, over_s = getattr(self, "incidents", ""), getattr(self, "over_s", 0.0)
        digest = hashlib.sha256(f"{over_s:g} {incidents}".encode()).hexdigest()
        return f"incidents-{digest[:12]}" if incidents else ""


@dataclass(frozen=True)
class Mttr(_OfHistory):
    """The mean time to recovery is below this many seconds."""

    kind: ClassVar[str] = "mttr"
    below_s: float
    incidents: str = ""
    over_s: float = 0.0


@dataclass(frozen=True)
class Mtbf(_OfHistory):
    """The mean time between failures is above this many seconds."""

    kind: ClassVar[str] = "mtbf"
    above_s: float
    incidents: str = ""
    over_s: float = 0.0


Objective: TypeAlias = (
    Alert
    | NoOtherAlert
    | Availability
    | ErrorRate
    | Latency
    | Throughput
    | ErrorBudget
    | BurnRate
    | Recovery
    | Failover
    | Failback
    | Degradation
    | Durability
    | Agreement
    | Canary
    | BlueGreen
    | RollingUpdate
    | Scaling
    | Regression
    | Mttr
    | Mtbf
)
#: Every kind there is.
OBJECTIVES: tuple[type[Any], ...] = get_args(Objective)


@dataclass(frozen=True)
class Plan:
    """A game day.

    ``guards`` are what stops it before its end, ``starts`` what must hold before it begins.
    ``file``, ``text`` and ``sha256`` are the document it was read from. ``recorded`` holds
    what was learnt when the run began (``target_description``, ``expected``, ``versions``…):
    top-level keys of ``plan.json`` that are not part of the plan itself.
    """

    version: int
    name: str
    description: str
    target: TargetNames
    traffic: Traffic
    baseline_s: float
    faults: tuple[Fault, ...]
    cool_down_s: float
    objectives: tuple[Objective, ...]
    file: str
    text: str
    sha256: str
    guards: tuple[Guard, ...] = ()
    starts: tuple[Guard, ...] = ()
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Every phase in order, with its planned duration."""
        phases = [Phase("baseline", "baseline", None, self.baseline_s)]
        for fault in self.faults:
            phases.append(Phase(f"fault:{fault.name}", "fault", fault.name, fault.hold_s))
            phases.append(Phase(f"recovery:{fault.name}", "recovery", fault.name, fault.recovery_s))
        if self.cool_down_s > 0:
            phases.append(Phase("cool-down", "cool-down", None, self.cool_down_s))
        return tuple(phases)

    @property
    def duration_s(self) -> float:
        """Planned seconds of traffic, all phases together."""
        return sum(phase.duration_s for phase in self.phases)

    @property
    def watches_alerts(self) -> bool:
        """Whether an objective asks which alerts fired, or arrived."""
        return any(isinstance(o, (Alert, NoOtherAlert)) for o in self.objectives)

    @property
    def watches_autoscalers(self) -> bool:
        """Whether an objective asks how a service was scaled."""
        return any(isinstance(o, Scaling) for o in self.objectives)

    @property
    def receivers(self) -> frozenset[str]:
        """Every receiver that an alert must reach."""
        return frozenset(r for o in self.objectives if isinstance(o, Alert) for r in o.receivers)

    @property
    def thresholds_s(self) -> tuple[float, ...]:
        """Latencies below which the load generator counts exactly, ascending."""
        found = {o.below_s for o in self.objectives if isinstance(o, Latency)}
        found |= {o.within_s for o in self.objectives if isinstance(o, (ErrorBudget, BurnRate))}
        return tuple(sorted(found - {0.0}))

    @property
    def expected(self) -> Mapping[str, Any]:
        """Expected failover times recorded by the conductor, or empty."""
        found = self.recorded.get("expected")
        return found if isinstance(found, Mapping) else {}

    @property
    def past_queries(self) -> Mapping[str, tuple[str, float]]:
        """Series name → (PromQL of incidents, seconds before the run that it is asked for)."""
        found = (o for o in self.objectives if isinstance(o, (Mttr, Mtbf)) and o.incidents)
        return {o.series_name: (o.incidents, o.over_s) for o in found}

    @property
    def own_queries(self) -> Mapping[str, str]:
        """Series name → PromQL that is asked for over the run."""
        found = (o for o in self.objectives if isinstance(o, Degradation) and o.breaker)
        return {o.series_name: o.breaker for o in found}

    def fault(self, name: str) -> Fault:
        """The fault called ``name``; KeyError if there is none."""
        for fault in self.faults:
            if fault.name == name:
                return fault
        raise KeyError(name)

    def with_recorded(self, **recorded: Any) -> Plan:
        """This plan with more top-level keys to write into ``plan.json``."""
        clash = set(recorded) & _OWN_KEYS
        if clash:
            raise ValueError(f"keys of the plan itself: {sorted(clash)}")
        return dataclasses.replace(self, recorded={**self.recorded, **recorded})

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object that :meth:`from_json` turns back into an equal plan."""
        own = {key: _plain(getattr(self, key)) for key in sorted(_OWN_KEYS)}
        own["traffic"] = self.traffic.to_json()
        own["objectives"] = [{"kind": o.kind, **_plain(o)} for o in self.objectives]
        for key in ("guards", "starts"):
            own[key] = [guard.to_json() for guard in getattr(self, key)]
            if not own[key]:
                del own[key]
        return {**own, **_plain(dict(self.recorded))}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Plan:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or ValueError on other input."""
        kinds = {kind.kind: kind for kind in OBJECTIVES}
        objectives = []
        for entry in document["objectives"]:
            fields = {key: _frozen(value) for key, value in entry.items() if key != "kind"}
            objectives.append(kinds[entry["kind"]](**fields))
        traffic = document["traffic"]
        if "recording" in traffic:
            traffic = {**traffic, "recording": Recording.from_json(traffic["recording"])}
        return cls(
            version=int(document["version"]),
            name=str(document["name"]),
            description=str(document["description"]),
            target=TargetNames(**{k: _frozen(v) for k, v in document["target"].items()}),
            traffic=Traffic(**traffic),
            baseline_s=float(document["baseline_s"]),
            faults=tuple(Fault(**fault) for fault in document["faults"]),
            cool_down_s=float(document["cool_down_s"]),
            objectives=tuple(objectives),
            file=str(document["file"]),
            text=str(document["text"]),
            sha256=str(document["sha256"]),
            guards=tuple(Guard(**guard) for guard in document.get("guards", ())),
            starts=tuple(Guard(**guard) for guard in document.get("starts", ())),
            recorded={key: value for key, value in document.items() if key not in _OWN_KEYS},
        )


_OWN_KEYS = {f.name for f in dataclasses.fields(Plan)} - {"recorded"}


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as JSON objects and arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
