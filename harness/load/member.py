"""A worker of Locust that sends its share of a schedule; :mod:`harness.load.fleet` is the master.

It reports every 0.3 s: what it is doing, the evidence since the last report, its own time. The
answer to a report says what time it is at the master and renews the lease: a worker sends
nothing later than :data:`LEASE_S` after it *wrote* the last report that was answered. It
needs no clock but its own for that, and neither a killed master, a frozen one or a silent
network nor its own being stopped for a while lets it send what the master has written off.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event

from harness.clock import Clock
from harness.errors import ExitStatus, HarnessError
from harness.load.engine import Engine
from harness.load.offset import Offset, OffsetClock, Offsets, measured
from harness.load.relay import Outbox, RelayPen
from harness.load.settings import Settings, from_environment
from harness.load.tally import NoPen, Pen

log = logging.getLogger(__name__)

# Messages: the first four from the master, the last from the worker.
SHARE, BEAT, GO, FINISH = "harness-share", "harness-beat", "harness-go", "harness-finish"
REPORT = "harness-report"

# What a worker is doing.
MEASURING, WARMING, READY, SENDING = "measuring", "warming", "ready", "sending"
#: Over: its share is sent; it ended early and accounted for all it took up; it never began.
DONE, LEFT, FAILED = "done", "left", "failed"
FINAL = (DONE, LEFT, FAILED)

REPORT_S = 0.3
LEASE_S = 1.7
#: The same before the schedule runs: making ready takes the processor for seconds at a time.
LEASE_BEFORE_GO_S = 10.0
#: Exchanges before the clocks count as compared.
EXCHANGES = 8
#: How long the master may take to answer the first report.
ANSWER_S = 10.0
_WATCH_S = 0.1

#: Makes the pen of a file inside the run folder and a source.
MakePen = Callable[[str, str], Pen]
#: Makes the engine of a share: settings, clock, begin_at, pens.
MakeEngine = Callable[[Settings, Clock, Callable[[Event], float | None], MakePen], Engine]


class Member:
    """One worker process's part in the tests of its master.

    ``send`` sends a message of a type to the master; ``leave`` ends Locust with an exit status.
    """

    def __init__(
        self,
        send: Callable[[str, dict[str, Any]], None],
        clock: Clock,
        environment: Mapping[str, str],
        leave: Callable[[int], None],
        before_last_report: Callable[[], None] = lambda: None,
    ) -> None:
        """``before_last_report`` sends the master what goes there by other ways."""
        self.engine: Engine | None = None
        self._send = send
        self._clock = clock
        self._environment = environment
        self._leave = leave
        self._before_last_report = before_last_report
        self._share: Mapping[str, Any] | None = None
        self._test = -1
        #: the test that the master said to end, maybe before it began here
        self._finished_test = -1
        self._over = Event()
        self._over.set()
        self._reset()

    def _reset(self) -> None:
        self._outbox = Outbox()
        self._offsets = Offsets()
        self._used: Offset | None = None
        self._answered_m = 0.0
        self._answer = Event()
        self._go = Event()
        self._begin_t: float | None = None
        self._state, self._why = MEASURING, ""
        self._exit_status = 0
        self._stopped_here = False

    @property
    def _asked_to_finish(self) -> bool:
        return self._finished_test == self._test

    @property
    def _ends(self) -> bool:
        return self._asked_to_finish or self._stopped_here

    # ---- what the master says -----------------------------------------------------------

    def take_share(self, share: Mapping[str, Any]) -> None:
        """The part this worker has in the next test."""
        self._share = share

    def take_beat(self, beat: Mapping[str, Any]) -> None:
        """The answer to a report: the lease is renewed, the clocks are compared."""
        if beat["test"] != self._test:
            return
        self._answered_m = max(self._answered_m, beat["m"])
        self._offsets.add(measured(beat["m"], beat["t"], self._clock.monotonic_s()))
        self._renew()
        self._answer.set()

    def take_go(self, go: Mapping[str, Any]) -> None:
        """When the schedule begins, in the master's time."""
        if go["test"] == self._test:
            self._begin_t = go["begin_t"]
            self._go.set()

    def take_finish(self, finish: Mapping[str, Any]) -> None:
        """End the schedule now; what is in flight is waited for."""
        self._finished_test = finish["test"]
        if finish["test"] == self._test:
            self._go.set()
            if self.engine is not None:
                gevent.spawn(self.engine.finish)

    # ---- what Locust says ---------------------------------------------------------------

    def begin(self, make_engine: MakeEngine) -> None:
        """A test begins: take part in it, if the master gave this worker a share."""
        share, self._share = self._share, None
        if share is None:
            log.warning("this worker came after the test began and takes no part in it")
            return
        self._over = Event()
        self._reset()
        self._test = share["test"]
        gevent.spawn(self._take_part, share, make_engine, self._over)

    def finish(self) -> None:
        """Locust stops: end the schedule, if the master has not ended it, and report the end."""
        self._stopped_here = True
        if self.engine is not None and not self._asked_to_finish:
            self.engine.abandon(drain=True)
        self._go.set()
        self._over.wait()

    # ---- one test -----------------------------------------------------------------------

    def _take_part(self, share: Mapping[str, Any], make_engine: MakeEngine, over: Event) -> None:
        helpers: list[Any] = []
        try:
            self._compare_clocks()
            helpers = [gevent.spawn(self._report_often), gevent.spawn(self._watch_lease)]
            if not self._ends:
                self._send_share(share, make_engine)
            self._state = LEFT if self._has_left() else DONE
        except HarnessError as error:
            self._fail(str(error), int(error.exit_status))
        except Exception as error:
            log.exception("this worker's share could not be sent")
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._fail(f"{error!r} ({where.filename}:{where.lineno})", int(ExitStatus.CRASH))
        finally:
            gevent.killall(helpers)
            self.engine = None
            self._before_last_report()
            self._report()
            over.set()
        if self._state == LEFT and self._lease_lost():
            self._leave(int(ExitStatus.UNKNOWN))

    def _has_left(self) -> bool:
        """Whether it ended before its share did and before the master said so; why is noted."""
        if self._stopped_here and not self._asked_to_finish:
            self._why = "it was stopped"
        elif self.engine is not None and self.engine.left:
            self._why = f"it heard nothing from the master for {self._lease_s:g} s"
        return bool(self._why)

    def _compare_clocks(self) -> None:
        give_up_m = self._clock.monotonic_s() + ANSWER_S
        while len(self._offsets) < EXCHANGES and not self._ends:
            self._answer.clear()
            self._report()
            while not self._answer.wait(_WATCH_S) and not self._ends:
                if self._clock.monotonic_s() > give_up_m:
                    raise HarnessError(f"the master did not answer within {ANSWER_S:g} s")
        self._used = self._offsets.best()

    def _send_share(self, share: Mapping[str, Any], make_engine: MakeEngine) -> None:
        assert self._used is not None
        self._state = WARMING
        settings = share_of(share, self._environment)
        clock = OffsetClock(self._clock, self._used.offset_s)

        def pen(file: str, source: str) -> Pen:
            if not share["evidence"]:
                return NoPen()
            return RelayPen(self._outbox, file, source, clock)

        engine = make_engine(settings, clock, self._wait_for_go, pen)
        self.engine = engine
        self._renew()
        if self._asked_to_finish:
            gevent.spawn(engine.finish)
        elif self._stopped_here:
            engine.abandon(drain=True)
        engine.run()

    def _wait_for_go(self, stop: Event) -> float | None:
        """Warmed up: say so, and wait until all are."""
        self._state = READY
        self._report()
        while not self._go.wait(_WATCH_S):
            if stop.is_set():
                return None
        if self._begin_t is not None and not self._ends:
            self._state = SENDING
            self._renew()
            return self._begin_t
        return None

    def _report_often(self) -> None:
        while True:
            gevent.sleep(REPORT_S)
            self._report()

    def _report(self) -> None:
        lines = self._outbox.take()
        try:
            self._send(
                REPORT,
                {
                    "test": self._test,
                    "m": self._clock.monotonic_s(),
                    "state": self._state,
                    "why": self._why,
                    "status": self._exit_status,
                    "host": socket.gethostname(),
                    "clock": self._compared(),
                    "lines": lines,
                },
            )
        except Exception as error:  # noqa: BLE001 - whatever the network does, they are sent later
            log.debug("a report could not be sent: %s", error)
            self._outbox.put_back(lines)

    def _compared(self) -> dict[str, float] | None:
        """How far the time in use is from the master's now, and this host's wall clock."""
        best = self._offsets.best()
        if best is None:
            return None
        used = self._used or best
        wall_offset_s = self._clock.wall_s() - self._clock.monotonic_s() - best.offset_s
        return {
            "drift_s": round(used.offset_s - best.offset_s, 6),
            "uncertainty_s": round(used.uncertainty_s + best.uncertainty_s, 6),
            "wall_offset_s": round(wall_offset_s, 6),
        }

    @property
    def _lease_s(self) -> float:
        return LEASE_S if self._begin_t is not None else LEASE_BEFORE_GO_S

    def _renew(self) -> None:
        if self.engine is not None:
            self.engine.lease_m = self._answered_m + self._lease_s

    def _lease_lost(self) -> bool:
        return self._clock.monotonic_s() > self._answered_m + self._lease_s

    def _watch_lease(self) -> None:
        """Give up what is in flight, and what wakes no timer, when the master is gone."""
        looked_m = self._clock.monotonic_s()
        while True:
            gevent.sleep(_WATCH_S)
            # After a stall of this process the answer may be there and not read yet; the
            # engine's own look at its lease needs no such mercy.
            now_m = self._clock.monotonic_s()
            stalled, looked_m = now_m - looked_m > LEASE_S / 2, now_m
            if self._lease_lost() and not stalled and self.engine is not None:
                log.error("nothing heard from the master for %g s: sending ends", self._lease_s)
                self.engine.abandon(drain=False)
                return

    def _fail(self, why: str, status: int) -> None:
        log.error("%s", why)
        self._state, self._why, self._exit_status = FAILED, why, status


def share_of(share: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings of one worker; the login is from this process's own environment."""
    login = {k: environment[k] for k in ("HARNESS_USER", "HARNESS_PASSWORD") if k in environment}
    settings = from_environment({**share["settings"], **login})
    return settings.of_worker(share["index"], share["workers"])
