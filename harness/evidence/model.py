"""The nouns of a run: what was seen, by whom, when, and what is missing.

All of it is immutable and plain, so judging is a function of values. Instants are wall
seconds since the epoch. A :class:`Gap` is evidence that should be there and is not;
the reader never guesses what it would have said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The "region" of what a CDN answered from its cache, without any region's help.
EDGE = "edge"
#: Why an arrival was not sent, when its generator had too little of a processor to send it.
GENERATOR_LATE = "generator-late"
#: Or when its generator was lost, or left before the end.
WORKER_LOST = "worker-lost"
WORKER_LEFT = "worker-left"
#: Reasons that are the generators' own: nobody was asked, so they say nothing of the service.
NOBODY_ASKED = frozenset({GENERATOR_LATE, WORKER_LOST, WORKER_LEFT})


@dataclass(frozen=True)
class Gap:
    """Evidence that is missing, torn or out of order. ``phase`` where it can be told."""

    source: str
    what: str
    phase: str | None
    detail: str


@dataclass(frozen=True)
class Event:
    """One line of ``history.jsonl``."""

    source: str
    seq: int
    t: float
    m: float
    kind: str
    data: Mapping[str, Any]
    line: int

    @property
    def uncertainty_s(self) -> float:
        """How much earlier than ``t`` it may have happened."""
        value = self.data.get("uncertainty_s", 0.0)
        return float(value) if isinstance(value, (int, float)) else 0.0

    def text(self, key: str) -> str:
        """``data[key]`` as text; empty when it is absent or null."""
        value = self.data.get(key)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Sighting:
    """An observer saw ``subject`` take ``value`` between ``t - uncertainty_s`` and ``t``."""

    source: str
    subject: str
    value: Any
    t: float
    uncertainty_s: float


@dataclass(frozen=True)
class PhaseSpan:
    """A phase as it really ran; ``end_t`` is None when its end was not recorded."""

    name: str
    kind: str
    fault: str | None
    start_t: float
    end_t: float | None


@dataclass(frozen=True)
class FaultRecord:
    """One action of a fault: what it was aimed at, when it was made, what became of its undo.

    ``holds`` and ``restored`` are the read-backs; None: never read back. ``undo`` is the
    undo record's id, None when the action has nothing to undo.
    """

    fault: str
    action: str
    targets: tuple[str, ...]
    undo: str | None
    start_t: float
    data: Mapping[str, Any] = field(default_factory=dict)
    call_start_t: float | None = None
    call_end_t: float | None = None
    holds: bool | None = None
    observed: Any = None
    undo_start_t: float | None = None
    undo_done_t: float | None = None
    restored: bool | None = None
    restored_observed: Any = None


@dataclass(frozen=True)
class TallyCell:
    """Arrivals of one second that share operation, who answered, and outcome.

    ``latency`` (from the planned instant) and ``service`` (from the send) are histograms,
    bucket index → count; ``below`` counts latencies ≤ each threshold, by its text.
    """

    op: str
    region: str
    zone: str
    outcome: str
    error: str
    n: int
    bytes: int
    latency: Mapping[int, int]
    service: Mapping[int, int]
    below: Mapping[str, int]


@dataclass(frozen=True)
class TallySecond:
    """What one load generator process planned in a second, and what became of it."""

    second: int
    planned: int
    cells: tuple[TallyCell, ...]


@dataclass(frozen=True)
class Lateness:
    """How late arrivals were sent: a histogram, as reported at ``t``."""

    t: float
    late: Mapping[int, int]


@dataclass(frozen=True)
class WorkerTally:
    """All that one load generator process reported. ``end`` is None when it never finished."""

    worker: str
    start: Mapping[str, Any]
    seconds: tuple[TallySecond, ...]
    lateness: tuple[Lateness, ...]
    end: Mapping[str, Any] | None


@dataclass(frozen=True)
class LedgerEntry:
    """One write or delete of one object. ``kind`` is ``write`` or ``delete``."""

    kind: str
    object: str
    op: str
    sha256: str
    size_bytes: int
    planned_t: float
    outcome: str
    ack_t: float | None
    region: str
    t: float


@dataclass(frozen=True)
class Readback:
    """What was found of one object: present, missing, altered or error.

    ``phase`` is empty for what was found after the run; ``answers`` of gateways it took.
    """

    object: str
    result: str
    region: str
    detail: str
    phase: str = ""
    t: float = 0.0
    answers: int = 0


@dataclass(frozen=True)
class ReadbackPass:
    """Read-back of some objects towards the end of a phase: how many were chosen, and asked."""

    phase: str
    chosen: int
    asked: int
    t: float


@dataclass(frozen=True)
class Listing:
    """One page of the service's own list, looked at after the run.

    How many entries were ``listed``, and of them: ids there ``twice``, ``copies`` of an
    object's bytes under an id nobody gave, objects ``undeleted``; and how many that were
    acknowledged are ``absent``. ``names`` has a few of each. ``error``: why it cannot be told.
    """

    prefix: str
    error: str
    listed: int
    twice: int
    copies: int
    undeleted: int
    absent: int
    names: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class SeriesLine:
    """One time series of an answer: points are ``(t, value as text)``."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Series:
    """The answer to one range query over the run, complete or not."""

    name: str
    query: str
    step_s: float
    start: float
    end: float
    status: str
    warnings: tuple[str, ...]
    fetched_t: float | None
    error: str
    result: tuple[SeriesLine, ...]


@dataclass(frozen=True)
class Evidence:
    """Everything a run folder holds, as read."""

    run: str
    events: tuple[Event, ...]
    sightings: tuple[Sighting, ...]
    phases: tuple[PhaseSpan, ...]
    faults: tuple[FaultRecord, ...]
    tallies: tuple[WorkerTally, ...]
    ledger: tuple[LedgerEntry, ...]
    readbacks: tuple[Readback, ...]
    series: Mapping[str, Series]
    gaps: tuple[Gap, ...]
    passes: tuple[ReadbackPass, ...] = ()
    listings: tuple[Listing, ...] = ()
    #: the share of the objects that the ledger follows
    followed: float = 1.0

    def of_kind(self, *kinds: str) -> tuple[Event, ...]:
        """Events of these kinds, in the order they happened."""
        return tuple(event for event in self.events if event.kind in kinds)

    def seen(self, subject: str) -> tuple[Sighting, ...]:
        """Sightings of one subject, in order."""
        return tuple(s for s in self.sightings if s.subject == subject)

    def phase(self, name: str) -> PhaseSpan | None:
        """The phase called ``name`` as it ran, or None."""
        return next((span for span in self.phases if span.name == name), None)

    def actions(self, fault: str) -> tuple[FaultRecord, ...]:
        """What was done for the fault called ``fault``."""
        return tuple(record for record in self.faults if record.fault == fault)
