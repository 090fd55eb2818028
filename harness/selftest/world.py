"""What is true on a simulated day, as immutable values: everything a case may change.

Durations are in seconds, shares between 0 and 1. Where a field is a moment, it counts from the
landing of the fault, or, in :class:`Back` and ``back_s``, from its restoration; ``None`` (``never``
in a file) means that it does not happen. The defaults are a day on which every promise is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Window:
    """A stretch of the day: ``for_s`` from ``after_s`` into ``phase`` (``all``: the whole day).

    ``for_s`` None: to the end of the phase. It may reach beyond it.
    """

    phase: str = "all"
    after_s: float = 0.0
    for_s: float | None = None


@dataclass(frozen=True)
class Trouble(Window):
    """Requests of a window that go wrong or are slow.

    ``share`` of those to ``zone`` with operation ``op``; empty: any. ``error``:
    the failure that clients see; without one they succeed after ``latency_s`` more.
    """

    share: float = 1.0
    zone: str = ""
    op: str = ""
    error: str = ""
    latency_s: float = 0.0


@dataclass(frozen=True)
class Silence(Window):
    """``source`` writes nothing at all in a window, as a process that hangs."""

    source: str = ""


@dataclass(frozen=True)
class Blind(Window):
    """The polls of ``subject`` fail in a window."""

    subject: str = ""


@dataclass(frozen=True)
class Service:
    """How the service answers when nothing is wrong: most within ``latency_s`` ± half of it, and
    ``slow_share`` of the requests ``slow_s`` later."""

    latency_s: float = 0.012
    slow_share: float = 0.01
    slow_s: float = 0.06
    error_share: float = 0.0
    trouble: tuple[Trouble, ...] = ()


@dataclass(frozen=True)
class Pods:
    """One pod of two is killed in the first zone. ``failing_share`` of the requests to the zone
    fail until the load balancer has noticed."""

    failing_s: float = 0.3
    failing_share: float = 0.5
    gone_s: float = 0.2
    replaced_s: float | None = 3.0


@dataclass(frozen=True)
class Zone:
    """The first zone is cut off; the database primary is there."""

    nodes_s: float | None = 1.0
    turned_away_s: float | None = 2.0
    db_moved_s: float | None = 3.2
    #: after the restoration: the zone serves again
    back_s: float = 1.5


@dataclass(frozen=True)
class Region:
    """The primary region is cut off; the standby takes over."""

    red_s: float | None = 1.6
    dns_s: float | None = 2.2
    #: clients have the new answer, and the standby serves reads
    clients_s: float | None = 2.6
    promoted_s: float | None = 3.4
    #: writes are acknowledged
    writable_s: float | None = 3.7


@dataclass(frozen=True)
class Back:
    """The way back, from the restoration of the region."""

    db_s: float | None = 1.2
    green_s: float | None = 1.6
    dns_s: float | None = 2.4
    clients_s: float | None = 2.8


@dataclass(frozen=True)
class Chaos:
    """What the chaos side did and wrote of one fault. ``holds`` and ``restored`` are read-backs;
    None: never read back."""

    made: bool = True
    #: whether the call changed anything at all
    effective: bool = True
    made_after_s: float = 0.4
    call_s: float = 0.05
    holds: bool | None = True
    undo_recorded: bool = True
    restored: bool | None = True
    outcome: str = "passed"
    because: str = ""

    def as_made(self) -> Chaos:
        """What was done, without what was written of it."""
        return Chaos(self.made, self.effective, self.made_after_s, self.call_s)


@dataclass(frozen=True)
class Uploads:
    """What became of acknowledged uploads: every Nth (0: none) is lost, altered, …"""

    lost_every: int = 0
    altered_every: int = 0
    #: the reading back failed, or was never tried
    unreadable_every: int = 0
    unread_every: int = 0
    #: those acknowledged so long before the region was lost were not replicated yet
    unreplicated_s: float = 0.0


@dataclass(frozen=True)
class Prometheus:
    """The monitoring's view. ``offset_s``: its clock is ahead by this much."""

    offset_s: float = 0.0
    offset_steps_s: float = 0.0
    #: the harness measured the offset
    offset_seen: bool = True
    scrape_s: float = 1.0
    #: no answer, and why (as the harness records it: ``timeout: …``)
    error: str = ""
    warning: str = ""
    recorded: bool = True
    empty: bool = False
    #: every value is this text
    value: str = ""
    #: counters of one zone (all) count this many times what happened
    counts: float = 1.0
    counts_zone: str = ""
    #: the counters of a second replica are in the answer too
    doubled: bool = False
    #: the counters of the first zone begin anew
    reset: tuple[Window, ...] = ()
    #: scrapes that were missed
    missed: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Generator:
    """The load generators: ``workers`` processes that share the schedule."""

    workers: int = 1
    late_s: float = 0.0004
    late_share: float = 0.0
    late_by_s: float = 0.08
    #: share of the planned rate that is really planned and sent
    speed: float = 1.0
    stalls: tuple[Window, ...] = ()
    #: so long after the first phase began the first worker is killed
    killed_s: float | None = None
    not_sent_share: float = 0.0
    not_sent_why: str = "no free slot"
    #: arrivals of which nothing is recorded
    forgotten_share: float = 0.0
    #: the master says that worker w1 was lost
    worker_lost: bool = False
    #: clocks of the workers: against the master's time (what they count by), and their own
    drift_s: float = 0.0
    drift_uncertainty_s: float = 0.005
    wall_offset_s: float = 0.0
    #: share of the downloaded bodies compared byte for byte
    verified: float = 1.0


@dataclass(frozen=True)
class Machine:
    """The machine the harness runs on."""

    idle: float = 0.6
    busy: tuple[Window, ...] = ()
    busy_idle: float = 0.01


@dataclass(frozen=True)
class Step(Window):
    """The harness's own wall clock is set forward by ``by_s`` at the beginning of the window."""

    by_s: float = 0.0


@dataclass(frozen=True)
class Conductor:
    """The day itself."""

    stopped: str = ""
    #: phases that were left out
    skipped: tuple[str, ...] = ()
    ends: bool = True
    #: seconds by which phases begin after a whole second
    begin_s: float = 0.37
    #: the harness's own wall clock is set
    clock: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Watch:
    """The observers: polls every ``period_s``, each taking ``call_s``."""

    period_s: float = 0.25
    call_s: float = 0.02
    silent: tuple[Silence, ...] = ()
    blind: tuple[Blind, ...] = ()
    #: sources of which one line is missing, or that were not closed
    torn: tuple[str, ...] = ()
    unclosed: tuple[str, ...] = ()
    #: sources of which nothing is there at all
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """One day. ``seed`` decides what is left to chance."""

    seed: int = 7
    service: Service = Service()
    pods: Pods = Pods()
    zone: Zone = Zone()
    region: Region = Region()
    back: Back = Back()
    #: by the name of the fault
    chaos: tuple[tuple[str, Chaos], ...] = ()
    uploads: Uploads = Uploads()
    prometheus: Prometheus = Prometheus()
    generator: Generator = Generator()
    machine: Machine = Machine()
    conductor: Conductor = Conductor()
    watch: Watch = Watch()

    def chaos_of(self, fault: str) -> Chaos:
        """What was done of ``fault``."""
        return dict(self.chaos).get(fault, Chaos())

    def as_traffic_sees_it(self) -> World:
        """The same day without what only those see who watch it or count afterwards."""
        return replace(
            self,
            chaos=tuple((name, chaos.as_made()) for name, chaos in self.chaos),
            uploads=Uploads(),
            prometheus=Prometheus(),
            machine=Machine(),
            conductor=Conductor(begin_s=self.conductor.begin_s),
            watch=Watch(),
        )


@dataclass(frozen=True)
class Truth:
    """When it really happened: seconds after the landing (``failback``: the restoration).

    By fault; None where it never did.
    """

    recovery_s: Mapping[str, float | None]
    failover_s: Mapping[str, float | None]
    failback_s: Mapping[str, float | None]
