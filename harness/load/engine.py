"""The open loop: arrivals leave at their planned instants, whatever the answers do.

One greenlet walks the schedule and hands each arrival to a greenlet of its own. It never
waits for an answer, so a slow service meets the same traffic as a fast one. When too many
requests are in flight an arrival is *not sent*, and counted so. Latency runs from the
planned instant: the time an arrival spent waiting for its turn is part of what its user
felt.

Runs inside Locust (gevent); nothing here imports Locust.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool

from harness.clock import Clock
from harness.errors import HarnessError, PlanInvalid
from harness.load import content
from harness.load.arrivals import Schedule
from harness.load.marks import Marks
from harness.load.outcome import FAILED, OK, Outcome
from harness.load.settings import Settings
from harness.load.tally import CellKey, Tally
from harness.load.workload import Call, NothingToSend, Workload

log = logging.getLogger(__name__)

FLUSH_S = 1.0
#: Beyond the timeout, for answers that arrive in the last moment to be counted.
DRAIN_GRACE_S = 0.5
WARM_UP_AT_ONCE = 4
WARM_UP_RETRY_S = 0.5

Operation = Callable[[Call], Outcome]


@dataclass(frozen=True)
class Finished:
    """One finished call, for whoever listens (Locust's own statistics)."""

    op: str
    method: str
    latency_s: float
    size_bytes: int
    error: str


class WarmUpFailed(HarnessError):
    """The service did not store the first objects; no traffic was sent."""


def choose_weights(
    operations: Mapping[str, float], mix: Mapping[str, float]
) -> tuple[list[str], list[float]]:
    """Names and weights of the operations to draw from; ``mix``, if any, replaces the weights.

    Raises PlanInvalid when the mix names an operation the locustfile has not.
    """
    unknown = sorted(set(mix) - set(operations))
    if unknown:
        raise PlanInvalid(
            f"the mix names {', '.join(unknown)}, which the locustfile does not define",
            hint=f"the operations are: {', '.join(sorted(operations))}",
        )
    weights = {name: float(w) for name, w in (mix or operations).items() if w > 0}
    if not weights:
        raise PlanInvalid("no operation has a share above 0", hint="mix: {download: 1}")
    return list(weights), list(weights.values())


class Engine:
    """One generator process's traffic: warm-up, schedule, drain, closing of the evidence."""

    def __init__(
        self,
        settings: Settings,
        workload: Workload,
        operations: Mapping[str, tuple[float, Operation]],
        *,
        clock: Clock,
        tally: Tally,
        marks: Marks,
        on_finished: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        self.settings = settings
        self.done = Event()
        self._workload = workload
        self._operations = {name: op for name, (_, op) in operations.items()}
        weights = {name: weight for name, (weight, _) in operations.items()}
        self._names, self._weights = choose_weights(weights, settings.mix)
        self._clock = clock
        self._tally = tally
        self._marks = marks
        self._on_finished = on_finished
        self._choice = random.Random(f"operations:{settings.seed}:{settings.worker}")
        self._pool = Pool()
        self._stop = Event()
        self.started = False

    def run(self) -> None:
        """Warm up, send the schedule, wait for what is in flight, close the evidence.

        Raises WarmUpFailed. Call it in a greenlet of its own; :meth:`finish` ends it.
        """
        try:
            self._warm_up()
            if not self._stop.is_set():
                self._run_schedule()
        finally:
            self._workload.ledger.close()
            self._marks.close()
            self._workload.http.close()
            self.done.set()

    def finish(self) -> None:
        """End the schedule now and return when the evidence is closed."""
        self._stop.set()
        self.done.wait()

    # -- warm-up ---------------------------------------------------------------------

    def _warm_up(self) -> None:
        settings = self.settings
        workers = settings.workers
        files = -(-settings.warm_up_files // workers)
        images = -(-settings.warm_up_images // workers)
        give_up_m = self._clock.monotonic_s() + settings.warm_up_s
        wanted = ["upload"] * files + ["image"] * images
        errors: list[str] = []
        pool = Pool(WARM_UP_AT_ONCE)
        pool.map(lambda op: self._store(op, give_up_m, errors), wanted)
        if not errors and not self._stop.is_set():
            pool.map(lambda user: user.renew_if_due(settings.timeout_s), self._workload.users)
        if errors and not self._stop.is_set():
            raise WarmUpFailed(
                f"warm-up: {len(errors)} of {len(wanted)} objects could not be stored within "
                f"{settings.warm_up_s:g} s; last error: {errors[-1]}",
                hint="is the service up, and is its name resolved (HARNESS_DNS)?",
            )

    def _store(self, op: str, give_up_m: float, errors: list[str]) -> None:
        """Upload one object, again and again until it is acknowledged or time is up."""
        while not self._stop.is_set():
            is_image = op == "image"
            object_id, body = self._workload.new_image() if is_image else self._workload.new_file()
            call = self._workload.call(self._clock.wall_s(), self._clock.monotonic_s())
            kind = content.IMAGE_TYPE if is_image else content.FILE_TYPE
            result = call.upload(object_id, body, op=op, content_type=kind)
            if result.outcome == OK:
                return
            if self._clock.monotonic_s() >= give_up_m:
                errors.append(result.error)
                return
            self._stop.wait(WARM_UP_RETRY_S)

    # -- schedule --------------------------------------------------------------------

    def _run_schedule(self) -> None:
        settings = self.settings
        schedule = Schedule(
            settings.rate, settings.arrivals, settings.seed, settings.duration_s, settings.ramp_s
        )
        # Whole milliseconds of head start: the first arrival can be on time too.
        start_m = self._clock.monotonic_s() + 0.02
        start_t = round(self._clock.wall_s() + 0.02, 6)
        self._tally.start(
            worker=settings.worker_name,
            rate=settings.rate / settings.workers,
            arrivals=settings.arrivals,
            seed=settings.seed,
            start_t=start_t,
            workers=settings.workers,
            duration_s=settings.duration_s,
            timeout_s=settings.timeout_s,
            mix=dict(zip(self._names, self._weights, strict=True)),
        )
        self.started = True
        helpers = [gevent.spawn(self._flush_often), gevent.spawn(self._renew_tokens)]
        try:
            for offset_s in schedule.share_s(settings.worker, settings.workers):
                if not self._wait_until(start_m + offset_s):
                    break
                self._arrive(start_t + offset_s, start_m + offset_s)
            else:
                self._wait_until(start_m + (settings.duration_s or 0.0))
        finally:
            unfinished = self._drain()
            gevent.killall(helpers)
            self._tally.end(unfinished=unfinished, **self._connection_counts())

    def _wait_until(self, due_m: float) -> bool:
        """Sleep until ``due_m``; False as soon as the run is to stop."""
        while (left_s := due_m - self._clock.monotonic_s()) > 0:
            if self._stop.wait(left_s):
                return False
        return not self._stop.is_set()

    def _arrive(self, planned_t: float, planned_m: float) -> None:
        """Count an arrival that fell due and send it, unless too much is in flight."""
        op = self._choice.choices(self._names, self._weights)[0]
        self._tally.planned(planned_t)
        if len(self._pool) >= self.settings.max_in_flight:
            self._tally.not_sent(planned_t, op, "too-many-in-flight")
            return
        call = self._workload.call(planned_t, planned_m)
        self._tally.sent()
        self._pool.spawn(self._serve, op, call, planned_m)

    def _serve(self, op: str, call: Call, planned_m: float) -> None:
        sent_m = self._clock.monotonic_s()
        self._tally.late(sent_m - planned_m)
        try:
            result = self._operations[op](call)
        except NothingToSend as nothing:
            self._tally.withdrawn(call.planned_t, op, str(nothing))
            return
        except gevent.GreenletExit:
            result = call.unfinished()
        except Exception as error:
            log.exception("operation %s raised", op)
            result = Outcome(FAILED, f"exception-{type(error).__name__}")
        self._count(op, call, result, planned_m, sent_m)

    def _count(self, op: str, call: Call, result: Outcome, planned_m: float, sent_m: float) -> None:
        now_m = self._clock.monotonic_s()
        latency_s = now_m - planned_m
        size_bytes = len(call.exchange.body) + call.bytes_sent
        key = CellKey(op, call.region, call.zone, *result)
        self._tally.done(
            call.planned_t,
            key,
            size_bytes=size_bytes,
            latency_s=latency_s,
            service_s=now_m - sent_m,
        )
        if result.outcome == OK:
            now_t = self._clock.wall_s()
            is_upload = call.method == "PUT"
            self._marks.success(now_t, op, call.region, call.zone, is_write=is_upload)
        self._on_finished(Finished(op, call.method, latency_s, size_bytes, result.error))

    def _drain(self) -> int:
        """Wait for what is in flight, at most the timeout; how many had to be given up."""
        self._pool.join(timeout=self.settings.timeout_s + DRAIN_GRACE_S)
        unfinished = len(self._pool)
        self._pool.kill(timeout=DRAIN_GRACE_S)
        return unfinished

    # -- helpers ---------------------------------------------------------------------

    def _flush_often(self) -> None:
        while True:
            gevent.sleep(FLUSH_S - self._clock.wall_s() % FLUSH_S)
            self._tally.flush()

    def _renew_tokens(self) -> None:
        while True:
            gevent.sleep(1.0)
            for user in self._workload.users:
                user.renew_if_due(self.settings.timeout_s)

    def _connection_counts(self) -> dict[str, Any]:
        return {"connections": vars(self._workload.http.counts).copy()}
