"""An engine in this process: what it planned, sent and counted adds up, whatever comes back."""

from __future__ import annotations

import gc
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import gevent
import pytest

from harness.clock import SystemClock
from harness.load.declare import Declared, get, put
from harness.load.engine import BURST_MAX, Engine, Takeoff
from harness.load.flights import DeclaredFlight, StepsFlight
from harness.load.marks import Marks
from harness.load.outcome import Outcome, of_read
from harness.load.plain import PlainCall, PlainTraffic
from harness.load.resolver import Resolver
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps
from harness.load.tally import NoPen, Tally
from harness.load.wire.client import HttpClient
from harness.load.wire.poller import Poller
from tests.load.fuzz.script import answer as fuzz_answer
from tests.load.fuzz.script import mutated

from .wire.scripted import CLOSE, RESET, Scripted, Step, answer, chunked


class Lines:
    """A pen that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def write(self, kind: str, /, *, t: float | None = None, **data: object) -> None:
        self.lines.append({"kind": kind, **data})

    def close(self) -> None:
        pass

    def outcomes(self) -> Counter[tuple[str, str, str]]:
        found: Counter[tuple[str, str, str]] = Counter()
        for line in self.lines:
            for second in line.get("seconds", {}).values():
                for cell in second["cells"]:
                    found[cell["op"], cell["outcome"], cell["error"]] += cell["n"]
        return found


def takeoff(name: str, declared: Declared, http: HttpClient, keep: Callable[[], object]) -> Takeoff:
    """As OpenLoopUser has it, which is not imported here: Locust patches the process.

    ``keep`` keeps the hub, before each.
    """
    ask, hangar = declared.bound_to(http), []

    def take_off(engine: Engine, planned_t: float, planned_m: float) -> DeclaredFlight:
        keep()
        flight = hangar.pop() if hangar else DeclaredFlight(engine, name, ask, hangar)
        flight.planned_t, flight.planned_m = planned_t, planned_m
        return flight

    return take_off


def run(
    url: str,
    operations: dict[str, Declared],
    traffic: type[PlainTraffic] = PlainTraffic,
    keep: Callable[[], object] = lambda: None,
    takeoffs: Mapping[str, tuple[float, Takeoff]] | None = None,
    **changes,
) -> tuple[Lines, dict]:
    """Send a schedule; returns the tally's lines, and its last."""
    poller, clock, pen = Poller(), SystemClock(), Lines()
    settings = Settings(
        **{"rate": 100.0, "arrivals": "even", "duration_s": 0.5, "timeout_s": 0.5, **changes}
    )
    http = HttpClient(url, Resolver(clock), poller=poller)
    engine = Engine(
        settings,
        traffic(http, 0, 0),
        {
            **{name: (o.weight, takeoff(name, o, http, keep)) for name, o in operations.items()},
            **(takeoffs or {}),
        },
        poller=poller,
        clock=clock,
        tally=Tally(pen, [0.2]),
        marks=Marks(NoPen()),
    )
    engine.run()
    poller.stop()
    return pen, pen.lines[-1]


def test_while_it_sends_what_was_loaded_before_is_not_looked_through_for_garbage() -> None:
    """That would stop it for tens of milliseconds; between runs it is."""
    frozen: list[int] = []
    with Scripted([[answer(b"hello")]]) as server:
        _, end = run(
            server.url, {"op": get("/")}, keep=lambda: frozen.append(gc.get_freeze_count())
        )
    assert end["sent"] == len(frozen) > 0
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0


def test_between_the_pieces_of_what_is_written_the_load_goes_on() -> None:
    turns, at = [0], []

    class Noting(Lines):
        def write(self, kind: str, /, *, t: float | None = None, **data: object) -> None:
            super().write(kind, t=t, **data)
            at.append(turns[0])

    class NearlyASecond(SystemClock):
        def wall_s(self) -> float:
            return 7.995

    def turn() -> None:
        turns[0] += 1

    poller, pen = Poller(), Noting()
    tally = Tally(pen, [0.2])
    for op, ms in itertools.product(range(9), range(1, 200)):
        tally.done(5.0, f"op{op}", ("", ""), ("ok", ""), 10, ms / 1e3, ms / 1e3)
    http = HttpClient("http://127.0.0.1:1", Resolver(SystemClock()), poller=poller)
    engine = Engine(
        Settings(),
        PlainTraffic(http, 0, 0),
        {"op": (1.0, takeoff("op", get("/"), http, lambda: None))},
        poller=poller,
        clock=NearlyASecond(),
        tally=tally,
        marks=Marks(NoPen()),
    )
    # There is always something to read here: each turn of the loop finds it.
    reader, writer = os.pipe()
    os.write(writer, b"x")
    watcher = gevent.get_hub().loop.io(reader, 1)
    watcher.start(turn)
    flushing = gevent.spawn(engine._flush_often)
    try:
        with gevent.Timeout(5):
            while len(at) < 9:
                gevent.sleep(0.001)
    finally:
        flushing.kill()
        watcher.stop()
        watcher.close()
        poller.stop()
        os.close(reader)
        os.close(writer)
    assert all(after > before for before, after in itertools.pairwise(at[:9]))


@pytest.mark.parametrize(
    ("steps", "declared", "outcome"),
    [
        ([answer(b"hello")], get("/", length=5), ("ok", "")),
        ([answer(b"hello!")], get("/", length=5), ("failed", "wrong-length")),
        ([chunked(b"hel", b"lo")], get("/", length=5), ("ok", "")),
        ([chunked(b"hello!")], get("/", length=5), ("failed", "wrong-length")),
        ([answer(b"hey", X_Degraded="stale")], get("/", length=5), ("degraded", "stale")),
        ([answer(b"no", "404 No", X_Degraded="stale")], get("/"), ("failed", "status-404")),
        ([answer(b"no", "404 No")], get("/", length=2), ("failed", "status-404")),
        ([answer(b"hello"), b"!"], get("/", length=5), None),
        ([9.0], get("/"), ("failed", "timeout")),
        ([9.0], put("/", body=b"x" * 100_000), ("unsure", "timeout")),
    ],
)
def test_a_declared_request_is_counted_by_what_came_back(
    steps: list[Step], declared: Declared, outcome: tuple[str, str] | None
) -> None:
    with Scripted([steps]) as server:
        pen, end = run(server.url, {"op": declared}, rate=40.0, timeout_s=0.2)
    found = pen.outcomes()
    assert end["planned"] == end["sent"] == sum(found.values()) == 20
    # One byte too many is met with the answer, or with the next use of the connection.
    kinds = {("op", *outcome)} if outcome else {("op", "ok", ""), ("op", "failed", "unasked")}
    assert set(found) <= kinds


@pytest.mark.parametrize(
    ("method", "outcome"), [("GET", ("degraded", "stale")), ("PUT", ("ok", ""))]
)
def test_steps_that_read_what_is_declared_to_be_less_have_degraded(
    method: str, outcome: tuple[str, str]
) -> None:
    """A write that was acknowledged was done, whatever else is said of it."""

    def steps(call: PlainCall) -> Steps[Outcome]:
        return of_read((yield from call.send(method, "/", body=b"x" * (method == "PUT"))), (200,))

    def take_off(engine: Engine, planned_t: float, planned_m: float) -> StepsFlight:
        call = engine._traffic.call(planned_t)
        return StepsFlight(engine, "op", call, steps(call), planned_t, planned_m)

    with Scripted([[answer(b"hello", X_Degraded="stale")]]) as server:
        pen, end = run(server.url, {}, takeoffs={"op": (1.0, take_off)})
    assert pen.outcomes() == {("op", *outcome): end["sent"]}
    assert end["sent"] == end["planned"] == 50


def test_whatever_a_server_answers_the_sums_are_exact() -> None:
    source = random.Random(3)
    scripts: list[list[list[Step]]] = []
    for _ in range(60):
        text = fuzz_answer(source).encode("latin-1")
        said = mutated(source, fuzz_answer(source)).encode("latin-1")
        last = source.choice([CLOSE, RESET, 9.0, said])
        scripts.append([[text], [said], [said[: len(said) // 2], 0.01, last]])
    operations = {"get": get("/"), "put": put("/", body=b"x" * 50_000)}
    with Scripted(*scripts, [[RESET]]) as server:
        pen, end = run(server.url, operations, rate=250.0, duration_s=0.6, timeout_s=0.4)
    found = pen.outcomes()
    assert end["planned"] == end["sent"] + end["not_sent"] == sum(found.values()) == 150
    assert end["in_flight"] == 0
    assert len({error for _, _, error in found}) > 5
    # Nothing is called whole that the server was not asked for.
    assert sum(n for (_, outcome, _), n in found.items() if outcome == "ok") <= len(server.requests)


class Asking(PlainTraffic):
    """Asks for something of its own every second."""

    def housekeeping(self) -> Iterator[Steps[None]]:
        def steps() -> Steps[None]:
            yield Ask("GET", self.http.head("GET", "/token"))

        return iter([steps()])


def test_a_request_beside_the_schedule_does_not_disturb_its_end() -> None:
    with Scripted([[answer()]]) as server:
        server.silent = b"/token"
        # It hangs when the schedule has ended and nothing else is in flight.
        pen, end = run(server.url, {"op": get("/")}, Asking, duration_s=1.2, timeout_s=0.6)
    assert (end["kind"], end["in_flight"]) == ("tally.end", 0)
    assert pen.outcomes() == {("op", "ok", ""): end["planned"]}


def test_a_generator_that_is_late_goes_on_reading_answers() -> None:
    with Scripted([[answer()]]) as server:
        taken_off, give_up_m = itertools.count(), time.monotonic() + 20.0

        def keep() -> None:
            """Half a second of work for what is due within a tenth of one; as much longer as the
            server needs for what was sent two rounds ago, so that its answers are there."""
            time.sleep(0.001)
            sent = next(taken_off) - 2 * BURST_MAX
            while len(server.answered) < sent and time.monotonic() < give_up_m:
                time.sleep(0.0005)

        pen, end = run(
            server.url, {"op": get("/")}, keep=keep, rate=5000.0, duration_s=0.1, timeout_s=5.0
        )
    found = pen.outcomes()
    # On a busy machine the last ones may be too late to be sent at all.
    assert set(found) <= {("op", "ok", ""), ("op", "not_sent", "generator-late")}
    assert sum(found.values()) == end["planned"] == 500
    # Else nothing is answered meanwhile, and each needs a connection of its own.
    assert end["connections"]["connections"] < 250
