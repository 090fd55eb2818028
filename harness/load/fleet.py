"""The master of Locust, where several generators send one schedule.

When a test begins it gives each worker that is there its share, has all of them warm up, and
names one instant at which the schedule begins; from then on the workers need nobody. Their
reports bring their evidence, which is written into the run folder as if they were here. A
worker that is not heard of for :data:`LOST_S` has stopped by itself (its lease ran out,
:mod:`harness.load.member`); what was left of its share is counted as not sent. Whoever comes
later takes no part in the test.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent

from harness.clock import Clock
from harness.errors import EvidenceError, ExitStatus, HarnessError
from harness.evidence.journal import Journal
from harness.evidence.model import WORKER_LEFT, WORKER_LOST
from harness.load.engine import DRAIN_GRACE_S, FLUSH_S
from harness.load.member import (
    BEAT,
    DONE,
    FAILED,
    FINAL,
    FINISH,
    GO,
    LEASE_S,
    LEFT,
    MEASURING,
    READY,
    SENDING,
    SHARE,
)
from harness.load.recorded import records_of, share_s
from harness.load.relay import HISTORY, Inbox
from harness.load.remainder import Remainder
from harness.load.settings import Settings
from harness.load.tally import NoPen, Pen, Tally, TallySums
from harness.plan.recording import Records

log = logging.getLogger(__name__)

#: Without a report for this long a worker is lost. Longer than its lease: it has stopped.
LOST_S = 2.5
#: The same before the schedule runs: making ready takes the processor for seconds at a time.
LOST_BEFORE_GO_S = 15.0
LOST = "lost"
#: From the word to the first arrival: long enough for the word to reach every worker.
GO_AHEAD_S = 0.5
LOOK_S = 0.25
#: A second of evidence means the same second everywhere within this; else it is not evidence.
CLOCK_BOUND_S = 0.05


@dataclass
class Seat:
    """One worker of a test, as the master sees it."""

    index: int
    client_id: str
    seen_m: float
    seen_t: float
    inbox: Inbox | None
    state: str = MEASURING
    why: str = ""
    status: int = 0
    host: str = ""
    clock: Mapping[str, float] | None = None
    clock_doubted: bool = False
    rest: Remainder | None = None
    lines_refused: bool = False

    @property
    def name(self) -> str:
        return f"w{self.index}"

    @property
    def is_over(self) -> bool:
        return self.state in FINAL or self.state == LOST


@dataclass
class _Test:
    number: int
    settings: Settings
    seats: dict[str, Seat]
    journal: Pen
    records: Records | None
    begin_t: float | None = None
    #: when it was asked to end, else None
    asked_t: float | None = None
    looked_m: float = 0.0
    flushed_m: float = 0.0
    told_over: bool = False
    closed: bool = False
    #: clients that came after the beginning, or after they were written off
    strangers: set[str] = field(default_factory=set)

    @property
    def end_t(self) -> float:
        """When the schedule ends, as far as that is known."""
        if self.asked_t is not None:
            return self.asked_t
        if self.settings.duration_s is None or self.begin_t is None:
            return float("inf")
        return self.begin_t + self.settings.duration_s


class Fleet:
    """The tests of one master.

    ``send`` sends a message of a type to a worker. ``on_over`` is called once per test, when
    no worker sends any more though nobody asked it to end; ``on_failed`` with the reason and
    an exit status when it cannot begin.
    """

    def __init__(
        self,
        send: Callable[[str, dict[str, Any], str], None],
        clock: Clock,
        on_over: Callable[[], None],
        on_failed: Callable[[str, int], None],
    ) -> None:
        self._send_to = send
        self._clock = clock
        self._on_over = on_over
        self._on_failed = on_failed
        self._test: _Test | None = None

    # ---- beginning ----------------------------------------------------------------------

    def begin(self, settings: Settings, client_ids: list[str]) -> None:
        """Give each of these workers its share of a new test."""
        try:
            records = records_of(settings)
        except HarnessError as error:
            self._on_failed(str(error), int(error.exit_status))
            return
        now_m, now_t = self._clock.monotonic_s(), self._clock.wall_s()
        run_dir = settings.run_dir
        seats = {
            client_id: Seat(
                index, client_id, now_m, now_t, Inbox(run_dir, f"w{index}") if run_dir else None
            )
            for index, client_id in enumerate(client_ids)
        }
        # The number must not be one that a worker knows from a master before this one.
        number = int(now_t * 1e6)
        journal = self._journal(run_dir)
        test = _Test(number, settings, seats, journal, records, looked_m=now_m)
        self._test = test
        told = dataclasses.replace(settings, run_dir=None).environment()
        for client_id, seat in seats.items():
            share = {
                "test": test.number,
                "index": seat.index,
                "workers": len(seats),
                "settings": told,
                "evidence": run_dir is not None,
            }
            self._send(client_id, SHARE, share)
        shared = settings.recording or f"{settings.planned.peak:g} arrivals/s"
        log.info("%d workers share %s", len(seats), shared)
        test.journal.write("fleet.start", workers=[seat.name for seat in seats.values()])
        gevent.spawn(self._look_often, test)

    def _journal(self, run_dir: Path | None) -> Pen:
        return Journal(run_dir / HISTORY, "fleet", self._clock) if run_dir else NoPen()

    def _go_if_ready(self, test: _Test) -> None:
        if test.begin_t is not None or test.asked_t is not None:
            return
        if not all(seat.state == READY for seat in test.seats.values()):
            return
        test.begin_t = round(self._clock.wall_s() + GO_AHEAD_S, 6)
        for client_id, seat in test.seats.items():
            self._send(client_id, GO, {"test": test.number, "begin_t": test.begin_t})
            self._write_clock(test, seat)
        test.journal.write("fleet.go", begin_t=test.begin_t, workers=self._places(test))

    def _places(self, test: _Test) -> dict[str, str]:
        return {seat.name: seat.host for seat in test.seats.values()}

    # ---- reports ------------------------------------------------------------------------

    def take_report(self, client_id: str, report: Mapping[str, Any]) -> None:
        """A worker said what it does; it is answered, and its evidence written."""
        test = self._test
        if test is None or report["test"] != test.number or test.closed:
            return
        seat = test.seats.get(client_id)
        if seat is None or seat.is_over:
            self._strange(test, client_id, seat)
            return
        self._send(
            client_id,
            BEAT,
            {"test": test.number, "m": report["m"], "t": self._clock.wall_s()},
        )
        seat.seen_m, seat.seen_t = self._clock.monotonic_s(), self._clock.wall_s()
        seat.host = report["host"]
        self._keep(seat, report["lines"])
        self._compare(test, seat, report["clock"])
        if report["state"] != seat.state:
            seat.state, seat.why, seat.status = report["state"], report["why"], report["status"]
            self._changed(test, seat)

    def _strange(self, test: _Test, client_id: str, seat: Seat | None) -> None:
        """Nothing of it is taken: what it might have sent is counted already."""
        if client_id not in test.strangers:
            test.strangers.add(client_id)
            name = seat.name if seat is not None else client_id
            log.warning("worker %s came back after it was counted as gone", name)
            test.journal.write("worker.returned", worker=name)

    def _keep(self, seat: Seat, lines: list[list[Any]]) -> None:
        if seat.inbox is None or seat.lines_refused:
            return
        try:
            seat.inbox.take(lines)
        except (EvidenceError, OSError, ValueError, KeyError, TypeError) as error:
            # Nothing more is taken from it: what is missing is seen by its numbers.
            seat.lines_refused = True
            log.error("evidence of worker %s is not taken any more: %s", seat.name, error)

    def _changed(self, test: _Test, seat: Seat) -> None:
        if seat.state == FAILED:
            log.error("worker %s: %s", seat.name, seat.why)
            test.journal.write("worker.failed", worker=seat.name, why=seat.why)
            self._tell_failed(test, seat.why, seat.status)
        elif seat.state == LEFT:
            log.warning("worker %s left: %s", seat.name, seat.why)
            self._write_off(test, seat, "worker.left", stopped_by_t=0.0)
            if test.begin_t is None and test.asked_t is None:
                why = f"worker {seat.name} ({seat.host}) left before the start: {seat.why}"
                self._tell_failed(test, why, int(ExitStatus.CRASH))
        elif seat.state == READY:
            self._go_if_ready(test)
        self._over_if_all(test)

    def _tell_failed(self, test: _Test, why: str, status: int) -> None:
        if not test.told_over:
            test.told_over = True
            self._on_failed(why, status or int(ExitStatus.CRASH))

    def _over_if_all(self, test: _Test) -> None:
        if test.told_over or test.asked_t is not None:
            return
        if all(seat.is_over for seat in test.seats.values()):
            test.told_over = True
            self._on_over()

    # ---- clocks -------------------------------------------------------------------------

    def _compare(self, test: _Test, seat: Seat, clock: Mapping[str, float] | None) -> None:
        seat.clock = clock
        if clock is None or seat.clock_doubted or seat.state != SENDING:
            return
        if abs(clock["drift_s"]) + clock["uncertainty_s"] > CLOCK_BOUND_S:
            seat.clock_doubted = True
            log.warning("the clock of worker %s cannot be relied on: %s", seat.name, dict(clock))
            self._write_clock(test, seat)

    def _write_clock(self, test: _Test, seat: Seat) -> None:
        """How the worker's time compares with the master's; within the bound or not."""
        test.journal.write(
            "worker.clock", worker=seat.name, bound_s=CLOCK_BOUND_S, **(seat.clock or {})
        )

    # ---- workers that are gone ------------------------------------------------------------

    def _look_often(self, test: _Test) -> None:
        while not test.closed:
            gevent.sleep(LOOK_S)
            if not test.closed:
                self.look()

    def look(self) -> None:
        """Who has not been heard of is lost; what falls due of the shares of such is counted."""
        test = self._test
        if test is None or test.closed:
            return
        now_m = self._clock.monotonic_s()
        # After a stall of the master itself the reports are there, and not read yet.
        stalled, test.looked_m = now_m - test.looked_m > 4 * LOOK_S, now_m
        limit_s = LOST_S if test.begin_t is not None else LOST_BEFORE_GO_S
        for seat in test.seats.values():
            if not seat.is_over and not stalled and now_m - seat.seen_m > limit_s:
                self._lose(test, seat)
        self._count_rests(test, min(self._clock.wall_s(), test.end_t))
        if now_m - test.flushed_m >= FLUSH_S:
            test.flushed_m = now_m
            for seat in test.seats.values():
                if seat.rest is not None:
                    seat.rest.flush()
        self._over_if_all(test)

    def _lose(self, test: _Test, seat: Seat) -> None:
        began = test.begin_t is not None
        seat.state, seat.why = LOST, f"not heard of for {self._clock.wall_s() - seat.seen_t:.1f} s"
        log.error("worker %s is lost: %s", seat.name, seat.why)
        self._write_off(test, seat, "worker.lost", stopped_by_t=seat.seen_t + LEASE_S)
        if not began:
            why = f"worker {seat.name} ({seat.host or seat.client_id}) was lost: {seat.why}"
            self._tell_failed(test, why, int(ExitStatus.CRASH))

    def _write_off(self, test: _Test, seat: Seat, kind: str, *, stopped_by_t: float) -> None:
        """State it, and from here on count the rest of its share as not sent."""
        inbox = seat.inbox
        reported = inbox.planned if inbox is not None else None
        test.journal.write(
            kind,
            worker=seat.name,
            host=seat.host,
            why=seat.why,
            last_report_t=round(seat.seen_t, 6),
            reported=reported,
            stopped_by_t=round(stopped_by_t, 6) if stopped_by_t else None,
        )
        if inbox is None or test.begin_t is None or inbox.ended or test.settings.closed:
            return
        if seat.lines_refused:
            return  # how far it came is not known; its tally stays open, which is a gap
        settings = test.settings
        begin_t = test.begin_t
        rest_s = share_s(settings, test.records, seat.index, len(test.seats))
        inbox.close()
        planned, done, not_sent = inbox.planned, inbox.done, inbox.not_sent
        sums = TallySums(planned, planned - not_sent, not_sent, planned - not_sent - done)
        seat.rest = Remainder(
            Tally(inbox.tally_pen(self._clock), inbox.thresholds_s, sums=sums),
            (begin_t + offset_s for offset_s in rest_s),
            reported=planned,
            stopped_by_t=stopped_by_t,
            error=WORKER_LOST if kind == "worker.lost" else WORKER_LEFT,
        )
        test.flushed_m = float("-inf")  # written at the next look, which is this one or soon

    def _count_rests(self, test: _Test, until_t: float) -> bool:
        """A chunk of each; whether all is counted that was due by ``until_t``."""
        rests = [seat.rest for seat in test.seats.values() if seat.rest is not None]
        counted = [rest.count(until_t) for rest in rests]
        return all(counted)

    # ---- ending -------------------------------------------------------------------------

    def finish(self) -> None:
        """End the test, wait for the workers to close their evidence, and close the rest.

        Returns when that is done; not to be called where messages are read.
        """
        test = self._test
        if test is None or test.closed:
            return
        if not test.told_over:
            test.asked_t = self._clock.wall_s()
        for client_id, seat in test.seats.items():
            if not seat.is_over:
                self._send(client_id, FINISH, {"test": test.number})
        give_up_m = self._clock.monotonic_s() + test.settings.timeout_s + DRAIN_GRACE_S + LOST_S
        while not all(seat.is_over for seat in test.seats.values()):
            if self._clock.monotonic_s() > give_up_m:
                for seat in test.seats.values():
                    if not seat.is_over:
                        self._lose(test, seat)
            gevent.sleep(0.05)
        until_t = min(self._clock.wall_s(), test.end_t)
        while not self._count_rests(test, until_t):
            gevent.sleep(0)
        self._close(test)

    def _close(self, test: _Test) -> None:
        test.closed = True
        for seat in test.seats.values():
            if seat.rest is not None:
                seat.rest.close()
            if seat.inbox is not None:
                seat.inbox.close()
        test.journal.write(
            "fleet.end", workers={seat.name: seat.state for seat in test.seats.values()}
        )
        test.journal.close()

    @property
    def complete(self) -> bool:
        """Whether every worker of the last test sent its share to the end."""
        return self._test is None or all(s.state == DONE for s in self._test.seats.values())

    def _send(self, client_id: str, kind: str, data: dict[str, Any]) -> None:
        try:
            self._send_to(kind, data, client_id)
        except Exception as error:  # noqa: BLE001 - it is missed soon enough, if it is gone
            log.warning("%s could not be sent to %s: %s", kind, client_id, error)
