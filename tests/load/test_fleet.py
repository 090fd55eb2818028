"""Master and workers without a network: shares, clocks, what a lost worker leaves behind."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from harness.clock import ManualClock
from harness.errors import EvidenceError
from harness.evidence import histogram
from harness.evidence.traffic import read_tally
from harness.load.arrivals import Schedule
from harness.load.fleet import CLOCK_BOUND_S, LOST_BEFORE_GO_S, LOST_S, Fleet
from harness.load.member import (
    DONE,
    FAILED,
    GO,
    LEASE_S,
    LEFT,
    READY,
    SENDING,
    SHARE,
    share_of,
)
from harness.load.offset import EXCHANGES_KEPT, Offset, OffsetClock, Offsets, measured
from harness.load.relay import Inbox, Outbox, RelayPen, ledger_file, tally_file
from harness.load.settings import Settings
from harness.load.tally import Tally
from harness.plan.logfile import read_records
from harness.plan.shapes import parse_rate

SHAPE = "ramp 20/s to 90/s over 3s"
RAMP = parse_rate(SHAPE)


class Worker:
    """Sends its share on a clock that is moved by hand, and reports like a worker."""

    def __init__(self, fleet: Fleet, client_id: str, clock: ManualClock) -> None:
        self.fleet, self.client_id, self.clock = fleet, client_id, clock
        self.settings = Settings()
        self.sent: list[float] = []
        self.test = -1
        self._outbox = Outbox()
        self._tally: Tally | None = None

    def told(self, kind: str, data: dict) -> None:
        if kind == SHARE:
            self.test = data["test"]
            self.settings = share_of(data, {})
        elif kind == GO:
            self._begin(data["begin_t"])

    def _begin(self, begin_t: float) -> None:
        name = self.settings.worker_name
        pen = RelayPen(self._outbox, tally_file(name), f"tally/{name}", self.clock)
        self._tally = Tally(pen, (0.2,))
        self._tally.start(worker=name, start_t=begin_t)
        settings = self.settings
        schedule = Schedule(settings.planned, settings.arrivals, settings.seed, settings.duration_s)
        share_s = schedule.share_s(settings.worker, settings.workers)
        self._due = [begin_t + offset_s for offset_s in share_s]

    def send_due(self) -> None:
        """What is due is sent, and most of it answered."""
        assert self._tally is not None
        now_t = self.clock.wall_s()
        while self._due and self._due[0] <= now_t:
            planned_t = self._due.pop(0)
            self.sent.append(planned_t)
            self._tally.took_off(planned_t, 0.0001)
            if planned_t % 1 < 0.9:  # the others are never answered
                latency_s = 0.001 + planned_t % 1 / 10
                self._tally.done(planned_t, "get", ("r", "z"), ("ok", ""), 5, latency_s, latency_s)

    def report(self, state: str, *, flush: bool = False, why: str = "", **clock: float) -> None:
        if flush and self._tally is not None:
            self._tally.flush()
        if state == DONE:
            assert self._tally is not None
            self._tally.end()
        compared = {"drift_s": 0.0, "uncertainty_s": 0.001, "wall_offset_s": 0.0, **clock}
        report = {"test": self.test, "m": self.clock.monotonic_s(), "state": state, "why": why}
        report |= {"status": 0, "host": "here", "clock": compared, "lines": self._outbox.take()}
        self.fleet.take_report(self.client_id, json.loads(json.dumps(report)))


class Scene:
    def __init__(self, run_dir, **settings) -> None:
        self.clock = ManualClock(wall_s=1_700_000_000.25)
        self.run_dir = run_dir
        self.over, self.failed = [], []
        self.fleet = Fleet(
            lambda kind, data, client_id: self.workers[client_id].told(kind, data),
            self.clock,
            lambda: self.over.append(True),
            lambda why, status: self.failed.append(why),
        )
        self.workers = {name: Worker(self.fleet, name, self.clock) for name in ("a", "b", "c")}
        given = {"shape": SHAPE, "duration_s": 6.0, "seed": 3, "run_dir": run_dir, **settings}
        self.settings = Settings(**given)
        self.fleet.begin(self.settings, list(self.workers))

    def ready(self) -> None:
        for worker in self.workers.values():
            worker.report(READY)

    def go_on(self, duration_s: float, *working: str) -> None:
        """Time goes by in steps of a tenth of a second, for these workers and the master."""
        for step in range(round(duration_s * 10)):
            self.clock.advance(0.1)
            for name in working:
                self.workers[name].send_due()
                if step % 3 == 0:
                    self.workers[name].report(SENDING, flush=step % 9 == 0)
            self.fleet.look()

    def history(self, kind: str) -> list[dict]:
        lines = (self.run_dir / "history.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == kind]

    def planned(self, worker: str) -> Counter[int]:
        tally, gaps = read_tally(self.run_dir / tally_file(worker), worker)
        assert not gaps
        counted: Counter[int] = Counter()
        for second in tally.seconds:
            counted[second.second] += second.planned
        return +counted


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_shares_add_up_to_the_schedule_and_begin_together(scene):
    scene.ready()
    begin_t = scene.history("fleet.go")[0]["begin_t"]
    scene.go_on(7.5, "a", "b", "c")
    for worker in scene.workers.values():
        worker.report(DONE)
    scene.fleet.finish()
    schedule = Schedule(RAMP, "poisson", 3, 6.0)
    everything = sorted(t for worker in scene.workers.values() for t in worker.sent)
    assert everything == [begin_t + offset_s for offset_s in schedule.offsets_s()]
    assert len({len(worker.sent) for worker in scene.workers.values()}) <= 2
    planned = sum((scene.planned(f"w{n}") for n in range(3)), Counter())
    assert planned == Counter(int(t) for t in everything)
    assert scene.over == [True]
    assert scene.fleet.complete
    assert scene.history("fleet.end")[0]["workers"] == {"w0": DONE, "w1": DONE, "w2": DONE}


def test_nobody_begins_before_all_are_ready(scene):
    scene.workers["a"].report(READY)
    scene.workers["b"].report(READY)
    assert not scene.history("fleet.go")
    scene.workers["c"].report(READY)
    assert len(scene.history("fleet.go")) == 1


def test_the_rest_of_a_lost_worker_is_counted_within_four_seconds(scene):
    scene.ready()
    scene.go_on(2.0, "a", "b", "c")
    lost_at_t = scene.clock.wall_s()
    scene.go_on(3.9, "a", "c")
    lost = scene.history("worker.lost")[0]
    assert lost["worker"] == "w1"
    assert lost["t"] - lost_at_t < 4
    counted = (scene.run_dir / tally_file("w1")).read_text()
    assert "worker-lost" in counted
    scene.go_on(1.6, "a", "c")
    scene.workers["a"].report(DONE)
    scene.workers["c"].report(DONE)
    assert scene.over == [True]
    assert not scene.fleet.complete
    scene.fleet.finish()
    everything = sum((scene.planned(f"w{n}") for n in range(3)), Counter())
    begin_t = scene.history("fleet.go")[0]["begin_t"]
    instants = [begin_t + offset_s for offset_s in Schedule(RAMP, "poisson", 3, 6.0).offsets_s()]
    assert everything == Counter(map(int, instants))
    tally, gaps = read_tally(scene.run_dir / tally_file("w1"), "w1")
    assert not gaps
    end = tally.end
    cells = [cell for second in tally.seconds for cell in second.cells]
    ok = sum(cell.n for cell in cells if cell.outcome == "ok")
    not_sent = sum(cell.n for cell in cells if cell.outcome == "not_sent")
    share = instants[1::3]
    # Between its last report and the end of its lease it may have sent, or not.
    assert not_sent == sum(t >= lost["stopped_by_t"] for t in share) > 0
    assert ok + not_sent + end["in_flight"] == end["planned"] == len(share)
    assert end["sent"] + not_sent <= end["planned"]
    assert end["closed_by"] == "master"
    assert 0 < lost["stopped_by_t"] - lost_at_t <= LEASE_S
    assert lost["reported"] < len(share)


def test_the_rest_of_a_recording_is_counted_as_that_of_a_schedule(tmp_path):
    log = tmp_path / "access.log"
    line = '::1 - - [01/Mar/2026:10:00:0{} +0000] "GET / HTTP/1.1" 200 5\n'
    log.write_text("".join(line.format(n) for n in (0, 0, 0, 1, 3, 3, 3, 3)))
    settings = {"recording": str(log), "speed": 2.0, "loop": True, "shape": ""}
    scene = Scene(tmp_path / "run", **settings)
    scene.ready()
    scene.workers["a"].report(LEFT)
    scene.clock.advance(10.0)
    scene.fleet.look()
    begin_t = scene.history("fleet.go")[0]["begin_t"]
    scene.fleet.finish()
    mine = itertools.islice(read_records(log, seed=3).instants_s(2.0, loop=True), 0, 24, 3)
    # Eight in each two of the six seconds, shared by three.
    assert scene.planned("w0") == Counter(int(begin_t + offset_s) for offset_s in mine)


def test_a_recording_that_is_not_there_ends_the_test(tmp_path):
    scene = Scene(tmp_path / "run", recording=str(tmp_path / "none.log"), shape="")
    assert "cannot be read" in scene.failed[0]


def test_a_lost_worker_that_speaks_again_is_told_nothing_and_nothing_of_it_is_taken(scene):
    scene.ready()
    scene.go_on(1.0, "a", "b", "c")
    scene.go_on(LOST_S + 0.5, "a", "c")
    before = (scene.run_dir / tally_file("w1")).read_bytes()
    answers = []
    scene.workers["b"].told = lambda kind, data: answers.append(kind)
    scene.workers["b"].report(SENDING, flush=True)
    scene.workers["b"].report(SENDING, flush=True)
    assert answers == []
    assert (scene.run_dir / tally_file("w1")).read_bytes() == before
    assert [line["worker"] for line in scene.history("worker.returned")] == ["w1"]


def test_a_worker_that_leaves_in_order_has_its_rest_counted_as_not_sent_to_the_last(scene):
    scene.ready()
    scene.go_on(2.0, "a", "b", "c")
    scene.workers["b"].report(LEFT, flush=True, why="it was stopped")
    scene.go_on(5.5, "a", "c")
    scene.workers["a"].report(DONE)
    scene.workers["c"].report(DONE)
    scene.fleet.finish()
    tally, _ = read_tally(scene.run_dir / tally_file("w1"), "w1")
    cells = [cell for second in tally.seconds for cell in second.cells]
    sent = len(scene.workers["b"].sent)
    assert sum(c.n for c in cells if c.error == "worker-left") == tally.end["planned"] - sent
    assert not scene.history("worker.lost")


def test_evidence_that_cannot_be_written_leaves_a_tally_without_end(scene):
    scene.ready()
    scene.go_on(1.0, "a", "b", "c")
    for seat in scene.fleet._test.seats.values():
        if seat.name == "w1":
            seat.inbox.take = lambda lines: (_ for _ in ()).throw(OSError("no space left"))
    scene.go_on(1.0, "a", "b", "c")
    scene.go_on(LOST_S + 0.5, "a", "c")
    assert scene.history("worker.lost")
    scene.workers["a"].report(DONE)
    scene.workers["c"].report(DONE)
    scene.fleet.finish()
    _, gaps = read_tally(scene.run_dir / tally_file("w1"), "w1")
    assert any("no tally.end" in gap.detail for gap in gaps)


def test_who_comes_later_takes_no_part(scene):
    scene.ready()
    late = Worker(scene.fleet, "late", scene.clock)
    late.test = scene.workers["a"].test
    late.report(SENDING)
    assert [line["worker"] for line in scene.history("worker.returned")] == ["late"]
    assert not (scene.run_dir / tally_file("w3")).exists()


def test_a_worker_lost_or_failed_before_the_start_ends_the_test(scene, tmp_path):
    scene.workers["a"].report(READY)
    scene.workers["b"].report(READY)
    for _ in range(round(LOST_BEFORE_GO_S * 2) + 2):
        scene.clock.advance(0.5)
        scene.workers["a"].report(READY)
        scene.workers["b"].report(READY)
        scene.fleet.look()
    assert len(scene.failed) == 1
    assert "worker w2 (c) was lost" in scene.failed[0]
    other = Scene(tmp_path / "other")
    other.workers["a"].report(FAILED, why="warm-up: no address")
    assert other.failed == ["warm-up: no address"]
    third = Scene(tmp_path / "third")
    third.workers["b"].report(LEFT, why="it was stopped")
    assert third.failed == ["worker w1 (here) left before the start: it was stopped"]


def test_a_master_that_stood_still_itself_loses_nobody(scene):
    scene.ready()
    scene.go_on(1.0, "a", "b", "c")
    scene.clock.advance(10)
    scene.fleet.look()
    assert not scene.history("worker.lost")


def test_a_clock_that_drifts_is_written_once_and_a_good_one_only_at_the_start(scene):
    scene.ready()
    scene.go_on(1.0, "a", "b", "c")
    assert len(scene.history("worker.clock")) == 3
    for _ in range(3):
        scene.workers["b"].report(SENDING, drift_s=-CLOCK_BOUND_S)
    doubted = scene.history("worker.clock")[3:]
    assert [(line["worker"], line["drift_s"]) for line in doubted] == [("w1", -CLOCK_BOUND_S)]


# ---- clocks -----------------------------------------------------------------------------------


def test_an_exchange_gives_the_offset_within_half_the_way_there_and_back():
    # Asked at 10, heard at 10.4; on the other side it was 500 at some instant in between.
    offset = measured(10.0, 500.0, 10.4)
    assert offset.uncertainty_s == pytest.approx(0.2)
    for answered_m in (10.0, 10.2, 10.4):
        assert abs(offset.offset_s - (500.0 - answered_m)) <= offset.uncertainty_s + 1e-9


def test_the_quickest_of_the_last_exchanges_counts():
    offsets = Offsets()
    assert offsets.best() is None
    offsets.add(Offset(1.0, 0.001))
    for n in range(EXCHANGES_KEPT - 1):
        offsets.add(Offset(2.0 + n, 0.5))
    assert offsets.best() == Offset(1.0, 0.001)
    offsets.add(Offset(9.0, 0.4))
    assert offsets.best() == Offset(9.0, 0.4)


def test_the_masters_time_is_not_moved_by_this_hosts_wall_clock():
    clock = ManualClock(wall_s=5.0, monotonic_s=100.0)
    theirs = OffsetClock(clock, 1_700_000_000.0 - 100.0)
    clock._wall_s = 99_999.0
    clock.sleep(2.0)
    assert theirs.wall_s() == 1_700_000_002.0
    assert theirs.monotonic_s() == 102.0


# ---- evidence under way -----------------------------------------------------------------------


def lines_of(count: int) -> list:
    outbox = Outbox()
    pen = RelayPen(outbox, tally_file("w0"), "tally/w0", ManualClock())
    tally = Tally(pen, (0.2,))
    tally.start(worker="w0")
    for _ in range(count):
        tally.took_off(1_700_000_000.0, 0.0)
        tally.done(1_700_000_000.0, "get", ("", ""), ("ok", ""), 1, 0.01, 0.01)
        tally.flush()
    tally.end()
    pen.close()
    return outbox.take()


def test_relayed_lines_are_those_a_journal_would_have_written(tmp_path):
    inbox = Inbox(tmp_path, "w0")
    inbox.take(lines_of(3))
    inbox.close()
    tally, gaps = read_tally(tmp_path / tally_file("w0"), "w0")
    assert not gaps
    assert tally.end["planned"] == inbox.planned == inbox.done == 3
    assert inbox.ended
    assert (tmp_path / tally_file("w0")).stat().st_mode & 0o777 == 0o600


def test_a_lost_line_is_a_gap_and_a_repeated_one_is_not_written_twice(tmp_path):
    inbox = Inbox(tmp_path, "w0")
    lines = lines_of(3)
    inbox.take(lines[:2] + lines[:2])
    assert not [g for g in gaps_of(tmp_path) if "more than once" in g]
    inbox.take(lines[3:])
    assert any("2 missing" in gap for gap in gaps_of(tmp_path))


def gaps_of(run_dir) -> list[str]:
    return [gap.detail for gap in read_tally(run_dir / tally_file("w0"), "w0")[1]]


@pytest.mark.parametrize("file", [tally_file("w1"), "../plan.json", "undo.jsonl", ledger_file("")])
def test_a_worker_writes_no_files_but_its_own(tmp_path, file):
    inbox = Inbox(tmp_path, "w0")
    with pytest.raises(EvidenceError):
        inbox.take([(file, 0, "{}")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_tallies_merged_over_workers_equal_one_process_bit_for_bit(tmp_path, workers):
    """The same outcomes, counted by one process or dealt out to several."""
    schedule = Schedule(RAMP, "poisson", 5, 30.0)
    whole = Counter()
    for n, offset_s in enumerate(schedule.offsets_s()):
        whole.update(outcome_of(offset_s, n))
    merged: Counter = Counter()
    for worker in range(workers):
        outbox = Outbox()
        name = f"w{worker}"
        tally = Tally(RelayPen(outbox, tally_file(name), name, ManualClock()), (0.01, 0.2))
        tally.start(worker=name)
        numbers = range(worker, 10**9, workers)
        for n, offset_s in zip(numbers, schedule.share_s(worker, workers), strict=False):
            tally.took_off(offset_s, 0.0)
            latency_s = latency_of(n)
            tally.done(offset_s, f"op{n % 3}", ("r", "z"), ("ok", ""), n, latency_s, latency_s)
            if n % 50 < workers:
                tally.flush()
        tally.end()
        inbox = Inbox(tmp_path, name)
        inbox.take(outbox.take())
        inbox.close()
        read, _ = read_tally(tmp_path / tally_file(name), name)
        for second in read.seconds:
            for cell in second.cells:
                key = (second.second, cell.op)
                merged[*key, "n"] += cell.n
                merged[*key, "bytes"] += cell.bytes
                merged.update({(*key, "below", t): n for t, n in cell.below.items()})
                merged.update({(*key, index): n for index, n in cell.latency.items()})
    assert +merged == +whole


def latency_of(n: int) -> float:
    return 50e-6 * 1.01 ** (n % 1400)


def outcome_of(offset_s: float, n: int) -> dict:
    key, latency_s = (int(offset_s), f"op{n % 3}"), latency_of(n)
    counted = {(*key, "n"): 1, (*key, "bytes"): n}
    counted |= {(*key, "below", str(t)): int(latency_s <= t) for t in (0.01, 0.2)}
    return counted | {(*key, histogram.index_of(latency_s * 1e6)): 1}
