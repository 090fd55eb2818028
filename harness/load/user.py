"""The Locust side: a user class whose operations are sent on an open schedule.

Stock Locust users wait for an answer before they ask again, so a frozen service is asked
less and looks better than it is. An :class:`OpenLoopUser` is one per process; it stands
for all virtual users, and its methods marked with :func:`operation` are called at the
planned instants. Locust's own statistics, web page and command line go on working; under
the harness (``HARNESS_RUN_DIR`` set) evidence is written as well.

::

    class Reader(OpenLoopUser):
        @operation(weight=1)
        def listing(self, call):
            answer = yield from call.get("/v1/files", limit=20)
            return checks.listing(answer)
"""

from __future__ import annotations

import inspect
import logging
import os
import resource
import time
from collections.abc import Callable
from typing import Any, ClassVar

import gevent
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from harness.clock import SystemClock
from harness.errors import HarnessError
from harness.evidence.journal import Journal
from harness.load.engine import Engine, Finished, Operation
from harness.load.fold import Fold
from harness.load.ledger import Ledger
from harness.load.marks import Marks
from harness.load.resolver import Resolver
from harness.load.settings import Settings, from_environment
from harness.load.tally import CellView, NoPen, Pen, Tally
from harness.load.wire.client import HASH, KEEP, HttpClient
from harness.load.wire.origin import Limits
from harness.load.wire.poller import Poller
from harness.load.workload import Workload

__all__ = ["HASH", "KEEP", "OpenLoopUser", "operation"]

log = logging.getLogger(__name__)

DEFAULT_HOST = "http://api.fileservice.lab:8080"
#: Options of the command line and the variable each one stands for.
_OPTIONS = {
    "rate": ("RATE", "planned arrivals per second, over all operations (default 50)"),
    "arrivals": ("ARRIVALS", "poisson or even (default poisson)"),
    "seed": ("SEED", "seed of arrivals, operations and contents (default 0)"),
    "mix": ("MIX", "shares of the operations, such as download=70,upload=30"),
    "timeout": ("TIMEOUT", "seconds after its planned instant a request has failed (default 5)"),
}
_WEIGHT = "harness_operation_weight"


def operation(weight: float) -> Callable[[Any], Any]:
    """Mark a method ``(self, call)`` as an operation with this share of the arrivals.

    It is written as steps (``answer = yield from call.get(…)``) and returns an Outcome.
    Raises TypeError for one that never yields.
    """

    def mark(function: Any) -> Any:
        if not inspect.isgeneratorfunction(function):
            raise TypeError(
                f"operation {function.__name__} asks for nothing: write `yield from call.get(…)`"
            )
        setattr(function, _WEIGHT, weight)
        return function

    return mark


class OpenLoopUser(User):
    """Base class of the locustfiles' users; see the module's docstring.

    Operations run in greenlets at the same time, many per user: keep no state of one
    call on ``self``.
    """

    abstract = True
    fixed_count = 1
    host = DEFAULT_HOST
    wait_time = constant(1)

    @task
    def traffic(self) -> None:
        """Wait for the engine, which works in greenlets of its own."""
        try:
            _engine_of(self).done.wait()
        except HarnessError as error:
            _give_up(self.environment, error)
        while True:  # until Locust stops this user
            gevent.sleep(1.0)

    def operations(self) -> dict[str, tuple[float, Operation]]:
        """name → (weight, function) of every operation of this class."""
        found = {}
        for name in dir(type(self)):
            weight = getattr(getattr(type(self), name), _WEIGHT, None)
            if weight is not None:
                found[name] = (float(weight), getattr(self, name))
        return found


class _Running:
    """The one engine of this process, per test."""

    engine: ClassVar[Engine | None] = None


def _engine_of(user: OpenLoopUser) -> Engine:
    engine = _Running.engine
    if engine is not None and not engine.done.is_set():
        log.warning(
            "%s does nothing: one open-loop user per process sends the whole schedule; "
            "choose one locustfile, and set the traffic with --rate, not with -u",
            type(user).__name__,
        )
        return engine
    engine = build_engine(user)
    _Running.engine = engine
    gevent.spawn(_run, engine, user.environment)
    return engine


def _run(engine: Engine, environment: Environment) -> None:
    try:
        engine.run()
    except HarnessError as error:
        _give_up(environment, error)
    else:
        # Without a duration it was ended from outside, and Locust is stopping already.
        if engine.settings.duration_s is not None and environment.runner is not None:
            environment.runner.quit()


def _give_up(environment: Environment, error: HarnessError) -> None:
    """Say why there is no traffic, and end Locust (from a greenlet that it does not kill)."""
    log.error("%s", error)
    environment.process_exit_code = int(error.exit_status)
    if environment.runner is not None:
        gevent.spawn(environment.runner.quit)


def build_engine(user: OpenLoopUser) -> Engine:
    """An engine for this user's operations, with what the environment says."""
    settings = settings_for(user.environment)
    clock = SystemClock()
    poller = Poller()
    limits = Limits(
        max_age_s=settings.connection_age_s,
        max_connections=min(descriptors() - 200, settings.in_flight_limit + 100),
    )
    http = HttpClient(
        user.environment.host or user.host or DEFAULT_HOST,
        Resolver(clock, settings.dns_server),
        poller=poller,
        limits=limits,
    )
    telling = _Telling(user.environment)
    name = settings.worker_name
    ledger = Ledger(_pen(settings, f"ledger/{name}.jsonl", f"ledger/{name}"))
    # Runs must not meet each other's objects: milliseconds of the start are in each id.
    run_tag = format(int(time.time() * 1000), "x")
    return Engine(
        settings,
        Workload(settings, http, clock, ledger, run_tag),
        user.operations(),
        poller=poller,
        clock=clock,
        tally=Tally(
            _pen(settings, f"tallies/{name}.jsonl", f"tally/{name}"),
            settings.thresholds_s,
            telling.counted,
        ),
        marks=Marks(_pen(settings, "history.jsonl", f"load/{name}")),
        on_finished=telling.finished,
    )


def descriptors() -> int:
    """How many files and sockets this process may have open; as many as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def settings_for(environment: Environment) -> Settings:
    """Settings from the variables, replaced by what the command line says."""
    options = environment.parsed_options
    given = {
        variable: str(getattr(options, name))
        for name, (variable, _) in _OPTIONS.items()
        if getattr(options, name, None)
    }
    return from_environment({**os.environ, **given})


def _pen(settings: Settings, file: str, source: str) -> Pen:
    if settings.run_dir is None:
        return NoPen()
    return Journal(settings.run_dir / file, source, SystemClock())


class RequestFailed(Exception):
    """How a failed request is called in Locust's statistics."""


class _Telling:
    """Tells Locust: its statistics a second at a time, or every request to whoever listens."""

    def __init__(self, environment: Environment) -> None:
        self._event = environment.events.request
        self._fold = Fold(environment.stats)

    def counted(self, second: int, cells: list[CellView]) -> None:
        if not self._has_listeners():
            self._fold.add(second, cells)
        self._fold.forget_old()

    def finished(self, finished: Finished) -> None:
        self._fold.methods[finished.op] = finished.method or "-"
        if not self._has_listeners():
            return
        self._event.fire(
            request_type=finished.method or "-",
            name=finished.op,
            response_time=finished.latency_s * 1000,
            response_length=finished.size_bytes,
            exception=RequestFailed(finished.error) if finished.error else None,
            context={},
            response=None,
        )

    def _has_listeners(self) -> bool:
        """Whether anybody but Locust's own statistics listens to the request event."""
        return len(self._event._handlers) > 1


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("Open-loop traffic")
    for name, (variable, text) in _OPTIONS.items():
        group.add_argument(f"--{name}", default="", help=f"{text}; or set {variable}")


@events.init.add_listener
def _look_at_the_clock(**_: Any) -> None:
    """Locust sets its -t timer next, from a time the loop last read before the imports."""
    gevent.get_hub().loop.update_now()


@events.test_stopping.add_listener
def _finish(**_: Any) -> None:
    """Locust is about to stop its users: end the schedule and wait for the evidence."""
    if _Running.engine is not None:
        _Running.engine.finish()
