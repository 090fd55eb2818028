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
    the failure that clients see; without one they succeed after ``latency_s`` more. ``degraded``:
    they get this instead of what they asked for, and are told so.
    """

    share: float = 1.0
    zone: str = ""
    op: str = ""
    error: str = ""
    latency_s: float = 0.0
    degraded: str = ""


@dataclass(frozen=True)
class Silence(Window):
    """``source`` writes nothing at all in a window, as a process that hangs."""

    source: str = ""


@dataclass(frozen=True)
class Blind(Window):
    """The polls of ``subject`` fail in a window, or of all that ``observer`` watches."""

    subject: str = ""
    observer: str = ""


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
class Canary:
    """A version of the gateway in the first zone, tried on some users. Moments count from its
    delivery; ``error`` is what ``error_share`` of those who meet it get (of ``op``; empty: any)."""

    up_s: float = 0.8
    #: ``weight`` per cent of the users are sent to it, and ``then_weight`` from ``then_s`` on
    shifted_s: float | None = 1.5
    weight: float = 40.0
    then_s: float | None = None
    then_weight: float = 70.0
    #: per cent that really meet it, where that is not its weight
    share: float | None = None
    #: given up, with users on it still; no user sent to it any more; everybody's
    aborted_s: float | None = None
    withdrawn_s: float | None = None
    promoted_s: float | None = None
    #: tried again, after it was withdrawn
    again_s: float | None = None
    #: it serves so long after its weight was 0
    lingers_s: float = 0.2
    error: str = ""
    error_share: float = 0.5
    op: str = ""
    latency_s: float = 0.0
    #: after it was taken back: its pods are gone; pods of the version before that are gone too
    gone_s: float | None = 1.5
    stable_lost: int = 0


@dataclass(frozen=True)
class Switch:
    """A version of the permission service in the first zone: all users at once (``share`` per cent
    really), or given up before."""

    up_s: float = 1.2
    switched_s: float | None = 1.8
    given_up_s: float | None = None
    share: float = 100.0


@dataclass(frozen=True)
class Rolling:
    """A version of the file service in the first zone, pod by pod; ``fewest`` of two available
    meanwhile."""

    first_s: float = 0.8
    complete_s: float | None = 3.0
    fewest: int = 2


@dataclass(frozen=True)
class Autoscaler:
    """The autoscalers of the first two zones (of ``zone`` only, if that is given; the other's is
    as it should be). Moments count from the beginning of the surge, ``takes_s`` and ``again_s``
    from its end."""

    zone: str = ""
    there: bool = True
    #: pods when the surge begins
    before: int = 1
    #: it asks for ``pods``, which are ready so long after
    asks_s: float | None = 2.0
    pods: int = 3
    ready_s: float | None = 2.0
    #: asks for as few as before, in the middle of the surge
    given_up_s: float | None = None
    #: asks for ``left`` pods again, and for as many as in the surge once more
    takes_s: float | None = 4.0
    left: int = 1
    again_s: float | None = None
    #: the part of its load in the surge that it says; what keeps it from telling any
    says: float = 1.0
    why: str = ""


@dataclass(frozen=True)
class Degradation:
    """A service is stopped in the first two zones, and what is asked of it is answered with less:
    ``degraded``, or, where that is empty, with ``error``. Moments count from the landing,
    ``closes_s``, ``whole_s`` and ``back_s`` from the restoration."""

    #: its pods are gone; are ready again
    gone_s: float | None = 0.3
    back_s: float | None = 1.5
    #: clients notice that it is gone at all
    felt: bool = True
    #: ``failing_share`` of what is asked of it fails until the circuit breaker opens, or would
    opens_s: float | None = 1.0
    failing_s: float = 1.0
    failing_share: float = 0.3
    #: from then on ``answered`` of it are answered
    degraded: str = "stale"
    error: str = "http-503"
    answered: float = 1.0
    closes_s: float | None = 3.2
    whole_s: float | None = 3.0
    #: the breaker was open all the time before
    open_before: bool = False


@dataclass(frozen=True)
class Alert:
    """One alert that a fault must raise, on its way. ``pending_s`` and ``fires_s`` count from the
    landing, ``resolves_s`` from the restoration, the others from the step before."""

    pending_s: float | None = 0.4
    fires_s: float | None = 1.3
    #: Alertmanager takes it, and tells
    taken_s: float | None = 0.1
    told_s: float | None = 0.5
    resolves_s: float | None = 1.6
    end_told_s: float | None = 0.5
    #: fires once more, so long after it resolved
    again_s: float | None = None
    #: silenced or inhibited in Alertmanager
    suppressed: bool = False
    #: receivers that are not told; that learn its name only
    untold: tuple[str, ...] = ()
    by_title: tuple[str, ...] = ()


@dataclass(frozen=True)
class OtherAlert(Window):
    """An alert that no fault must raise fires in a window; ``told``: to every receiver."""

    name: str = "DiskFull"
    told: bool = True


@dataclass(frozen=True)
class Garbled(Window):
    """At the beginning of a window ``receiver`` gets a message that cannot be read."""

    receiver: str = ""


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
    #: those acknowledged so long before the region was lost were not replicated yet; or were, and
    #: were not there for a while
    unreplicated_s: float = 0.0
    away_s: float = 0.0
    #: every Nth is not in the ledger; every Nth deleted one is there again
    unwritten_every: int = 0
    resurrected_every: int = 0
    #: in the service's list: listed twice, under a second id; or why there is no list
    twice: int = 0
    copies: int = 0
    list_error: str = ""
    #: the share that is followed
    followed: float = 1.0
    #: phases in which none was read back
    unasked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Past:
    """Runs before this one: ``runs`` green ones, and how each went, give or take ``spread``; and
    ``incidents`` of the last month, evenly spread, that Prometheus knows of."""

    runs: int = 12
    #: of them: that failed, that left evidence out
    red: int = 0
    incomplete: int = 0
    p95_s: float = 0.018
    spread: float = 0.04
    #: in each: seconds in which nothing was done, repairs; failures in all of them
    watched_s: float = 600.0
    repair_s: float = 4.0
    failures: int = 1
    incidents: int = 6
    incident_s: float = 600.0
    #: days of the month of which Prometheus has nothing
    missing_days: float = 0.0


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
    #: the evidence was sealed when the run ended; files that were changed afterwards
    seals: bool = True
    tampered: tuple[str, ...] = ()


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
    #: what becomes of versions, by what must: withdrawn, promoted, switched, complete
    bad: Canary = Canary(withdrawn_s=5.0, error="http-500")
    good: Canary = Canary(then_s=3.5, promoted_s=5.5)
    switch: Switch = Switch()
    rolling: Rolling = Rolling()
    autoscaler: Autoscaler = Autoscaler()
    degradation: Degradation = Degradation()
    #: by the name of the fault
    chaos: tuple[tuple[str, Chaos], ...] = ()
    #: by the name of the alert
    alerts: tuple[tuple[str, Alert], ...] = ()
    others: tuple[OtherAlert, ...] = ()
    garbled: tuple[Garbled, ...] = ()
    uploads: Uploads = Uploads()
    prometheus: Prometheus = Prometheus()
    generator: Generator = Generator()
    machine: Machine = Machine()
    conductor: Conductor = Conductor()
    watch: Watch = Watch()
    past: Past = Past()

    def chaos_of(self, fault: str) -> Chaos:
        """What was done of ``fault``."""
        return dict(self.chaos).get(fault, Chaos())

    def alert_of(self, name: str) -> Alert:
        """What becomes of the alert ``name``."""
        return dict(self.alerts).get(name, Alert())

    def as_traffic_sees_it(self) -> World:
        """The same day without what only those see who watch it or count afterwards."""
        return replace(
            self,
            chaos=tuple((name, chaos.as_made()) for name, chaos in self.chaos),
            bad=replace(self.bad, gone_s=None, stable_lost=0),
            rolling=Rolling(),
            autoscaler=Autoscaler(),
            degradation=replace(
                self.degradation, gone_s=None, opens_s=None, closes_s=None, open_before=False
            ),
            alerts=(),
            others=(),
            garbled=(),
            past=Past(),
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
