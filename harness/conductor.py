"""The day in order: preflight, baseline, each fault and its recovery, cool-down.

The conductor only makes things happen and has them recorded; it judges nothing.
Whatever happens (an error, Ctrl-C, SIGTERM), faults are undone before it returns,
and a watchdog process undoes them if it never returns.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from harness import __version__
from harness.chaos.before import Permission, checks_before
from harness.chaos.blast import BlastRadius
from harness.chaos.conditions import stop_files
from harness.chaos.driver import ChaosDriver
from harness.chaos.guards import Guards, start_guards
from harness.chaos.lease import lease
from harness.chaos.page import page
from harness.chaos.recover import recover
from harness.chaos.registry import Reach
from harness.chaos.undo import open_records, read_records
from harness.chaos.watchdog import WatchdogHandle, start_watchdog
from harness.clock import Clock
from harness.errors import Refused
from harness.evidence.journal import Journal
from harness.evidence.run import write_atomic, written_by_others
from harness.evidence.seal import SEAL, sealed
from harness.load.driver import LiveFigures, LoadDriver
from harness.load.readback import Pass, read_back
from harness.plan.model import Fault, Phase, Plan
from harness.secrets import in_mapping, learn, scrub
from harness.target import entry
from harness.target.expected import expected
from harness.target.model import Target
from harness.target.preflight import Check, preflight, settled
from harness.watch.observers import autoscalers, observers, periods
from harness.watch.receivers import Receivers, ReceiversListen
from harness.watch.series import fetch_series
from harness.watch.watch import Watch

#: How long past its hold an experiment may take (hypotheses, injection, undo) before it is stopped.
EXPERIMENT_SLACK_S = 60.0
LOAD_READY_S = 60.0
READ_BACK_DEADLINE_S = 90.0
_TICK_S = 0.25
_PACKAGES = (
    "locust",
    "chaostoolkit",
    "chaostoolkit-lib",
    "chaostoolkit-kubernetes",
    "chaostoolkit-aws",
    "boto3",
    "kubernetes",
    "prometheus-api-client",
)


class Progress(Protocol):
    """Who is told how the run goes; the command line draws it."""

    def note(self, text: str) -> None: ...
    def checks(self, checks: list[Check]) -> None: ...
    def phase(self, phase: Phase, index: int, count: int) -> None: ...
    def tick(
        self, remaining_s: float, figures: LiveFigures | None, faults: Mapping[str, str]
    ) -> None: ...


@dataclass(frozen=True)
class Stopped:
    """Why a run ended early."""

    reason: str


def new_run_dir(root: Path, plan: Plan, clock: Clock) -> Path:
    """``root/<plan>/<UTC time>``, created; the time is what makes it unique."""
    return run_dir_in(root / plan.name, clock.wall_s())


def run_dir_in(folder: Path, now_t: float) -> Path:
    """``folder/<UTC time>``, created."""
    stamp = datetime.fromtimestamp(now_t, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    base = folder / stamp
    run_dir, n = base, 1
    while run_dir.exists():
        n += 1
        run_dir = base.with_name(f"{stamp}-{n}")
    run_dir.mkdir(parents=True, mode=0o700)
    return run_dir


class Conductor:
    """One run of one plan against one target."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        *,
        target_file: Path,
        run_dir: Path,
        clock: Clock,
        progress: Progress,
        kill_load_after_s: float | None = None,
        listen: tuple[str, int] | None = None,
        kill_switches: Sequence[Path] = (),
        approval: Path | None = None,
    ) -> None:
        """``listen`` (address, port): the generators are Locust workers that connect to it.
        ``kill_switches``: files that stop the run as soon as they are there, beside its own.
        ``approval``: the file that a production target needs."""
        self.plan = plan
        self.target = target
        self.run_dir = run_dir
        self._target_file = target_file
        self._clock = clock
        self._progress = progress
        self._kill_load_after_s = kill_load_after_s
        self._listen = listen
        self._approval = approval
        self._kill_switches = tuple(kill_switches)
        self._stop_conditions = (*stop_files(run_dir, self._kill_switches), *plan.guards)
        self._guards: Guards | None = None
        self._stop = threading.Event()
        self._stop_reason: str | None = None
        self._load = LoadDriver(clock)
        self._chaos: ChaosDriver | None = None
        self._watch: Watch | None = None
        self._receivers: Receivers | None = None
        self._watchdog: WatchdogHandle | None = None
        self._prepared = False

    # ---- the day ---------------------------------------------------------------------

    def run(self) -> Stopped | None:
        """Run the day; returns why it was stopped early, or None.

        Raises Refused before anything is touched, UndoIncomplete when a fault is still in
        place at the end, and whatever went wrong in between once all is in order again.
        """
        for file in {fault.experiment for fault in self.plan.faults}:
            learn(in_mapping(json.loads(Path(file).read_bytes())))
        learn(in_mapping(self.plan.to_json()))
        self._write_plan()
        with lease(self.target, self.run_dir):
            self._refuse_or_go()
            self._day()
        return Stopped(self._stop_reason) if self._stop_reason else None

    def _day(self) -> None:
        journal = Journal(self.run_dir / "history.jsonl", "conductor", self._clock)
        with self._signals():
            try:
                self._prepare(journal)
                self._phases(journal)
            finally:
                self._finish(journal)

    def _write_plan(self) -> None:
        recorded = self.plan.with_recorded(
            run=self.run_dir.name,
            started_t=self._clock.wall_s(),
            target_description=_target_json(self.target),
            expected=expected(self.target),
            versions=_versions(),
            sha256s=self._digests(),
        )
        document = json.dumps(recorded.to_json(), indent=1, sort_keys=True).encode()
        write_atomic(self.run_dir / "plan.json", document)

    def _digests(self) -> dict[str, str]:
        traffic = self.plan.traffic
        files = [f.experiment for f in self.plan.faults] + [traffic.locustfile]
        files += [traffic.recording.file] if traffic.recording else []
        return {f: hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files}

    def _refuse_or_go(self) -> None:
        radius = BlastRadius(self.plan, Reach(self.target), self._clock)
        permission = Permission(self._target_file, self._approval)
        checks = settled(
            lambda: preflight(
                self.target,
                edge=self.plan.traffic.entry == "edge",
                more=checks_before(
                    self.plan,
                    self.target,
                    self._clock,
                    guards=self._stop_conditions,
                    radius=radius,
                    permission=permission,
                ),
            ),
            self._clock,
            lambda wrong: self._progress.note(
                "preflight: waiting for " + "; ".join(f"{c.name}: {c.detail}" for c in wrong)
            ),
        )
        self._progress.checks(checks)
        bad = [c for c in checks if c.ok is not True]
        if bad:
            raise Refused(
                "preflight: " + "; ".join(f"{c.name}: {c.detail}" for c in bad),
                hint=bad[0].hint or "`harness check PLAN` shows every check",
            )
        radius.write(self.run_dir)
        permission.use()
        described = self.target.alert_receivers
        if self.plan.watches_alerts and described is not None:
            self._receivers = Receivers(described, self.run_dir, self._clock)
        elif self.plan.receivers:
            self._progress.note("alerts: the target has no receivers, so delivery stays unknown")

    def _prepare(self, journal: Journal) -> None:
        looking = observers(self.target)
        if self.plan.watches_autoscalers:
            looking += autoscalers(self.target)
        if self._receivers is not None:
            every_s = periods(self.target).alerts
            looking.append(ReceiversListen(self._receivers.described, every_s))
        self._watch = Watch(looking, self.run_dir, self._clock)
        journal.write(
            "run.start",
            run=self.run_dir.name,
            plan=self.plan.name,
            target=self.target.name,
            observers=self._watch.names,
            readbacks=[phase.name for phase in self.plan.phases if phase.fault],
            sealed=True,
            receivers=self._receivers.names if self._receivers else [],
        )
        self._watchdog = start_watchdog(self.run_dir, [os.getpid()], target_file=self._target_file)
        self._guards = start_guards(
            self.run_dir,
            self._stop_conditions,
            target_file=self._target_file,
            on_trip=lambda trip: self.stop(trip.reason),
            clock=self._clock,
            others=self._kill_switches,
        )
        self._guards.wait_ready()
        if self._receivers is not None:
            self._receivers.start()
        self._watch.start()
        self._progress.note("traffic: warming up")
        traffic = self.plan.traffic
        self._load.start(
            self.run_dir,
            locustfile=Path(traffic.locustfile),
            rate=traffic.rate,
            shape=traffic.shape,
            recording=traffic.recording,
            arrivals=traffic.arrivals,
            seed=traffic.seed,
            mix=dict(traffic.mix),
            timeout_s=traffic.timeout_s,
            behaviour=dict(traffic.behaviour),
            service_url=entry.url(self.plan, self.target),
            dns_server=self.target.dns_server,
            duration_s=None,
            thresholds_s=self.plan.thresholds_s or (0.2,),
            kill_after_s=self._kill_load_after_s,
            processes=int(traffic.workers),
            listen=self._listen,
        )
        self._load.wait_ready(LOAD_READY_S)
        self._prepared = True

    def _phases(self, journal: Journal) -> None:
        phases = self.plan.phases
        for index, phase in enumerate(phases):
            if phase.kind != "baseline" and self._guards is not None and not self._stop.is_set():
                self._guards.arm()
            if self._stop.is_set():
                return
            self._progress.phase(phase, index, len(phases))
            journal.write("phase.start", phase=phase.name, fault=phase.fault)
            try:
                with self._reading_back(phase):
                    if phase.kind == "fault":
                        assert phase.fault is not None
                        self._fault(self.plan.fault(phase.fault))
                    else:
                        self._wait(phase.duration_s)
            finally:
                journal.write("phase.end", phase=phase.name, fault=phase.fault)

    def _reading_back(self, phase: Phase) -> AbstractContextManager[object]:
        """Some uploads are read back in each phase that breaks something, or follows that."""
        if not phase.fault:
            return nullcontext()
        return Pass(
            self.run_dir,
            phase.name,
            phase.fault,
            duration_s=phase.duration_s,
            planned_rate=self.plan.traffic.rate,
            service_url=self.target.service_url,
            dns_server=self.target.dns_server,
            timeout_s=self.plan.traffic.timeout_s,
            clock=self._clock,
        )

    def _fault(self, fault: Fault) -> None:
        """Run one experiment to its end, its undo included."""
        chaos = ChaosDriver(self._clock)
        self._chaos = chaos
        chaos.start(
            self.run_dir,
            experiment=Path(fault.experiment),
            fault=fault.name,
            hold_s=fault.hold_s,
            target_file=self._target_file,
            env=dict(self.target.environment),
        )
        self._wait(
            fault.hold_s + EXPERIMENT_SLACK_S,
            until=lambda: chaos.poll() is not None,
            shown_s=fault.hold_s,
        )
        if chaos.poll() is None:
            chaos.stop(self._stop_reason or "took too long")
        else:
            chaos.wait(5.0)
        self._chaos = None

    def _wait(
        self,
        duration_s: float,
        *,
        until: Callable[[], bool] = lambda: False,
        shown_s: float | None = None,
    ) -> None:
        start = self._clock.monotonic_s()
        while not self._stop.is_set() and not until():
            elapsed = self._clock.monotonic_s() - start
            if elapsed >= duration_s:
                return
            shown = duration_s if shown_s is None else shown_s
            self._progress.tick(
                max(0.0, shown - elapsed), self._load.latest(), self._fault_states()
            )
            self._stop.wait(min(_TICK_S, duration_s - elapsed))

    def _fault_states(self) -> dict[str, str]:
        """fault → what became of it, from the undo log; only faults begun so far."""
        found: dict[str, str] = {}
        for record in read_records(self.run_dir)[0]:
            state = "undone" if record.undone else "in place" if record.made else "being made"
            # Of several records of one fault, one that is still open is what matters.
            if found.get(record.fault, "undone") == "undone":
                found[record.fault] = state
        return found

    # ---- the end, whatever happened ---------------------------------------------------------

    def _finish(self, journal: Journal) -> None:
        """Undo first, then stop the traffic, then complete the evidence.

        Each step is taken whatever became of the one before; the first error is raised
        at the end.
        """
        errors: list[BaseException] = []
        steps: list[Callable[[], None]] = [self._undo, self._end_guards, self._drain]
        if self._stop_reason is None and self._prepared:
            steps += [self._read_back]
        steps += [self._end_watch, self._fetch_series]
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - raised below, once all is in order
                errors.append(error)
        journal.write(
            "run.end",
            stopped=self._stop_reason,
            errors=[str(e) for e in errors],
            phases=[p.name for p in self.plan.phases],
        )
        journal.close()
        if self._watchdog is not None:
            self._watchdog.close()
        scrub(written_by_others(self.run_dir))
        try:
            write_atomic(self.run_dir / SEAL, sealed(self.run_dir))
        except OSError as error:
            errors.append(error)
        if errors:
            raise errors[0]

    def _undo(self) -> None:
        if open_records(self.run_dir):
            self._progress.note("undoing what is still in place")
            report = recover(self.run_dir, clock=self._clock)
            if not report.complete:
                self._progress.note(page(self.target, self.run_dir, report))
            report.raise_if_incomplete()

    def _end_guards(self) -> None:
        if self._guards is not None:
            self._guards.close()
        if self._stop_reason is not None:
            self._progress.note(f"stopped: {self._stop_reason}")

    def _drain(self) -> None:
        self._progress.note("traffic: draining")
        self._load.stop(self.plan.traffic.timeout_s + 10.0)

    def _read_back(self) -> None:
        self._progress.note("reading back every upload that is followed")
        read_back(
            self.run_dir,
            service_url=self.target.service_url,
            dns_server=self.target.dns_server,
            timeout_s=self.plan.traffic.timeout_s,
            deadline_s=READ_BACK_DEADLINE_S,
        )

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop(5.0)
        if self._receivers is not None:
            self._receivers.close()

    def _fetch_series(self) -> None:
        self._progress.note("fetching Prometheus series")
        plan = self.plan
        own, past = plan.own_queries, plan.past_queries
        fetch_series(self.target, self.run_dir, self._clock, own=own, past=past)

    # ---- signals -------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ask the run to end; faults are undone at once."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self._stop.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP end the run in order; a second one changes nothing.

        SIGHUP does not under nohup: that says that it is to go on without its terminal.
        """

        def on_signal(number: int, _: FrameType | None) -> None:
            self.stop(signal.Signals(number).name)

        wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            wanted.remove(signal.SIGHUP)
        before = {s: signal.signal(s, on_signal) for s in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _target_json(target: Target) -> dict[str, Any]:
    """What the report says of the target; nothing of its environment, which may hold secrets."""
    return {
        "name": target.name,
        "simulated": target.simulated,
        "time_scale": target.time_scale,
        "primary": target.primary,
        "standby": target.standby,
        "service_url": target.service_url,
        "scrape_interval_s": target.scrape_interval_s,
        "zones": {c.zone: c.region for c in target.clusters},
        "databases": {d.instance: {"region": d.region, "zone": d.zone} for d in target.databases},
        "simulates": list(target.simulates),
        "not_simulated": list(target.not_simulated),
    }


def _versions() -> Mapping[str, str]:
    found = {"harness": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found
