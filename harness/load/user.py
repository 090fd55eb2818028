"""The Locust side: a user class whose operations are sent on an open schedule.

Stock Locust users wait for an answer before they ask again, so a frozen service is asked
less and looks better than it is. An :class:`OpenLoopUser` is one per process; it stands
for all virtual users, and its declared requests and the methods marked with :func:`operation`
are sent at the planned instants. Locust's own statistics, web page and command line go on
working; under the harness (``HARNESS_RUN_DIR`` set) evidence is written as well.

::

    class Reader(OpenLoopUser):
        home = get("/", weight=9)

        @operation(weight=1)
        def search(self, call):
            answer = yield from call.get("/search", q="cats")
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
from gevent.event import Event
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from harness.clock import Clock, SystemClock
from harness.errors import HarnessError, PlanInvalid
from harness.evidence.following import FOLLOWED_AT_MOST
from harness.evidence.journal import Journal
from harness.load import relay
from harness.load.declare import Bound, Declared, delete, get, post, put
from harness.load.distributed import begin_fleet, follow, lead
from harness.load.engine import Engine, Takeoff, Traffic
from harness.load.fleet import Fleet
from harness.load.flights import DeclaredFlight, Flight, NothingToSend, StepsFlight
from harness.load.fold import Fold, batch
from harness.load.ledger import Ledger
from harness.load.marks import Marks
from harness.load.member import MakePen, Member
from harness.load.outcome import Outcome
from harness.load.plain import PlainTraffic
from harness.load.recorded import Replay
from harness.load.resolver import Resolver
from harness.load.settings import Settings, from_environment
from harness.load.steps import Steps
from harness.load.tally import CellView, NoPen, Pen, Tally
from harness.load.wire.ask import DROP, HASH, KEEP
from harness.load.wire.client import HttpClient
from harness.load.wire.origin import Limits
from harness.load.wire.poller import Poller
from harness.load.workload import Workload
from harness.plan.behaviour import Behaviour

__all__ = [
    "DROP",
    "HASH",
    "KEEP",
    "Behaviour",
    "FileServiceUser",
    "NothingToSend",
    "OpenLoopUser",
    "delete",
    "get",
    "operation",
    "post",
    "put",
]

log = logging.getLogger(__name__)

DEFAULT_HOST = "http://api.fileservice.lab:8080"
#: Options of the command line and the variable each one stands for.
_OPTIONS = {
    "rate": (
        "RATE",
        "planned arrivals per second over all operations (default 50), or how they go over time, "
        "as in a plan: 'ramp 50/s to 500/s over 2m'",
    ),
    "arrivals": ("ARRIVALS", "poisson or even (default poisson)"),
    "seed": ("SEED", "seed of arrivals, operations and contents (default 0)"),
    "mix": ("MIX", "shares of the operations, such as download=70,upload=30"),
    "closed": ("CLOSED", "instead of a rate: so many at once, each following the last"),
    "run_dir": ("HARNESS_RUN_DIR", "folder in which evidence is written (default: none is)"),
    "timeout": ("TIMEOUT", "seconds after its planned instant a request has failed (default 5)"),
    "recording": ("RECORDING", "instead of a rate: an access log or HAR file to replay"),
    "speed": ("SPEED", "how many times as fast as it was recorded (default 1)"),
    "methods": ("METHODS", "what is replayed (default GET,HEAD,OPTIONS)"),
    "loop": ("LOOP", "replay it again and again"),
}
_FLAGS = ("loop",)
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
    """Base class of users that are sent on an open schedule; see the module's docstring.

    Its traffic is in its attributes: declared requests (:mod:`harness.load.declare`) and methods
    marked with :func:`operation`. Operations of many arrivals run at the same time: keep no
    state of one call on ``self``.
    """

    abstract = True
    fixed_count = 1
    wait_time = constant(1)
    #: whether Locust's statistics show the operations; not where they show the requests of each
    tells_locust = True

    @task
    def traffic(self) -> None:
        """Wait for the engine, which works in the hub."""
        host_engine(self)

    def bring(self, settings: Settings, http: HttpClient, clock: Clock) -> Traffic:
        """What goes with the traffic of this class; here nothing but the requests themselves."""
        return PlainTraffic(http, settings.seed, settings.worker)

    def settle(self, settings: Settings) -> Settings:
        """What the settings are for this class of users. Raises PlanInvalid for what it cannot."""
        if settings.recording is not None:
            raise PlanInvalid(
                f"{type(self).__name__} sends operations of its own, no recording",
                hint="locustfiles/replay.py replays one",
            )
        return settings

    def replay(self, settings: Settings, http: HttpClient) -> Replay | None:
        """The recording that is sent instead of operations of its own."""
        return None

    def takeoffs(self, traffic: Any, http: HttpClient) -> dict[str, tuple[float, Takeoff]]:
        """name → (weight, how an arrival of it takes off) of every operation of this class."""
        found: dict[str, tuple[float, Takeoff]] = {}
        for name in dir(type(self)):
            value = getattr(type(self), name)
            if isinstance(value, Declared):
                found[name] = (value.weight, _declared(name, value.bound_to(http)))
            elif hasattr(value, _WEIGHT):
                steps = getattr(self, name)
                found[name] = (float(getattr(value, _WEIGHT)), _stepped(name, steps, traffic))
        if not found:
            raise PlanInvalid(
                f"{type(self).__name__} has no operation",
                hint="declare one, such as home = get('/'), or mark a method with @operation",
            )
        return found


class FileServiceUser(OpenLoopUser):
    """A user of the file and image service: tokens, a ledger of what is stored, known objects."""

    abstract = True
    host = DEFAULT_HOST
    #: how users behave (docs/traffic.md); what a plan says goes before it
    behaviour: ClassVar[Behaviour] = Behaviour()

    def bring(self, settings: Settings, http: HttpClient, clock: Clock) -> Workload:
        name = settings.worker_name
        pen = pen_of(settings)(relay.ledger_file(name), f"ledger/{name}")
        ledger = Ledger(pen, max(1, FOLLOWED_AT_MOST // settings.workers))
        # Runs must not meet each other's objects: milliseconds of the start are in each id.
        run_tag = format(int(time.time() * 1000), "x")
        return Workload(settings, http, clock, ledger, run_tag, self.behaviour)


def _declared(name: str, ask: Bound) -> Takeoff:
    hangar: list[DeclaredFlight] = []

    def take_off(engine: Engine, planned_t: float, planned_m: float) -> Flight:
        flight = hangar.pop() if hangar else DeclaredFlight(engine, name, ask, hangar)
        flight.planned_t = planned_t
        flight.planned_m = planned_m
        return flight

    return take_off


def _stepped(name: str, steps: Callable[[Any], Steps[Outcome]], traffic: Any) -> Takeoff:
    def take_off(engine: Engine, planned_t: float, planned_m: float) -> Flight:
        call = traffic.call(planned_t)
        return StepsFlight(engine, name, call, steps(call), planned_t, planned_m)

    return take_off


def host_engine(user: Any) -> None:
    """Send the schedule of ``user``'s class, as the one engine of this process; never returns."""
    if _Running.member is None:  # a worker's engine needs no user
        try:
            _engine_of(user).done.wait()
        except HarnessError as error:
            _give_up(user.environment, error)
    while True:  # until Locust stops this user
        gevent.sleep(1.0)


class _Running:
    """The one engine of this process, per test; its part where there are several processes."""

    engine: ClassVar[Engine | None] = None
    member: ClassVar[Member | None] = None
    fleet: ClassVar[Fleet | None] = None
    #: how evidence is written, where that is not simply into the run folder
    pens: ClassVar[MakePen | None] = None


def _engine_of(user: Any) -> Engine:
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
        # If it was ended from outside, Locust is stopping already.
        if not engine.was_stopped and environment.runner is not None:
            environment.runner.quit()


def _give_up(environment: Environment, error: HarnessError) -> None:
    """Say why there is no traffic, and end Locust (from a greenlet that it does not kill)."""
    log.error("%s", error)
    environment.process_exit_code = int(error.exit_status)
    if environment.runner is not None:
        gevent.spawn(environment.runner.quit)


def build_engine(
    user: Any,
    settings: Settings | None = None,
    clock: Clock | None = None,
    begin_at: Callable[[Event], float | None] | None = None,
) -> Engine:
    """An engine for this user's operations, with what the environment says."""
    settings = user.settle(settings or settings_for(user.environment))
    clock = clock or SystemClock()
    pen = pen_of(settings)
    host = user.environment.host or user.host
    if not host:
        raise PlanInvalid("no host to send to", hint="--host http://…, or host in the user class")
    poller = Poller()
    limits = Limits(
        max_age_s=settings.connection_age_s,
        max_connections=min(descriptors() - 200, settings.in_flight_limit + 100),
    )
    http = HttpClient(host, Resolver(clock, settings.dns_server), poller=poller, limits=limits)
    traffic = user.bring(settings, http, clock)
    replay = user.replay(settings, http)
    telling = _Telling(user.environment)
    name = settings.worker_name
    engine = Engine(
        settings,
        traffic,
        user.takeoffs(traffic, http) if replay is None else replay.takeoffs(),
        replay=replay,
        poller=poller,
        clock=clock,
        tally=Tally(
            pen(relay.tally_file(name), f"tally/{name}"),
            settings.thresholds_s,
            telling.counted if user.tells_locust else telling.passed,
        ),
        marks=Marks(pen(relay.HISTORY, f"load/{name}")),
        on_finished=telling.finished if user.tells_locust and telling.has_listeners else None,
        begin_at=begin_at,
    )
    telling.fold.methods = engine.methods
    return engine


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


def pen_of(settings: Settings) -> MakePen:
    """How evidence is written: ``pen(file inside the run folder, source)``."""

    def pen(file: str, source: str) -> Pen:
        if settings.run_dir is None:
            return NoPen()
        return Journal(settings.run_dir / file, source, SystemClock())

    return _Running.pens or pen


class RequestFailed(Exception):
    """How a failed request is called in Locust's statistics."""


class _Telling:
    """Tells Locust: its statistics a second at a time, or every request to whoever listens."""

    def __init__(self, environment: Environment) -> None:
        self._event = environment.events.request
        #: whether anybody but Locust's own statistics listens to the request event
        self.has_listeners = len(self._event._handlers) > 1
        self.fold = Fold(environment.stats)

    def counted(self, second: int, cell: CellView) -> None:
        if self.has_listeners:
            self.fold.forget_old()
        else:
            self.fold.add(second, cell)

    def passed(self, second: int, cell: CellView) -> None:
        """The requests themselves were told; that their numbers stay bounded is still to do."""
        self.fold.forget_old()

    def finished(self, op: str, method: str, latency_s: float, size_bytes: int, error: str) -> None:
        self._event.fire(
            request_type=method or "-",
            name=op,
            response_time=latency_s * 1000,
            response_length=size_bytes,
            exception=RequestFailed(error) if error else None,
            context={},
            response=None,
        )


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("Open-loop traffic")
    for name, (variable, text) in _OPTIONS.items():
        flag, help_text = f"--{name.replace('_', '-')}", f"{text}; or set {variable}"
        if name in _FLAGS:
            group.add_argument(flag, action="store_true", help=help_text)
        else:
            group.add_argument(flag, default="", help=help_text)


events.init.add_listener(batch)


@events.init.add_listener
def _look_at_the_clock(**_: Any) -> None:
    """Locust sets its -t timer next, from a time the loop last read before the imports."""
    gevent.get_hub().loop.update_now()


@events.init.add_listener
def _take_part(environment: Environment, runner: Runner, **_: Any) -> None:
    """Under a master there is one schedule for all workers; see :mod:`harness.load.fleet`."""
    if isinstance(runner, MasterRunner):
        _Running.fleet = lead(environment, runner)
    elif isinstance(runner, WorkerRunner):
        _Running.member = follow(environment, runner)


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    classes = sorted(
        (c for c in environment.user_classes if issubclass(c, OpenLoopUser)),
        key=lambda found: found.__name__,
    )
    if not classes:
        return
    if _Running.fleet is not None:
        begin_fleet(_Running.fleet, environment, settings_for(environment))
    elif _Running.member is not None:

        def make_engine(
            settings: Settings,
            clock: Clock,
            begin_at: Callable[[Event], float | None],
            pens: MakePen,
        ) -> Engine:
            _Running.pens = pens
            return build_engine(classes[0](environment), settings, clock, begin_at)

        _Running.member.begin(make_engine)


@events.test_stopping.add_listener
def _finish(**_: Any) -> None:
    """Locust is about to stop its users: end the schedule and wait for the evidence."""
    for running in (_Running.fleet, _Running.member, _Running.engine):
        if running is not None:
            running.finish()


@events.quitting.add_listener
def _finish_first(**_: Any) -> None:
    """Locust is ending, and next tells its master so: let the evidence get there before."""
    for running in (_Running.fleet, _Running.member):
        if running is not None:
            running.finish()
