"""A worker's part in a test, against a master that says what the test wants said."""

from __future__ import annotations

import gevent
import pytest

from harness.clock import SystemClock
from harness.load import member
from harness.load.member import (
    DONE,
    FAILED,
    LEASE_BEFORE_GO_S,
    LEASE_S,
    LEFT,
    MEASURING,
    READY,
    Member,
)
from harness.load.settings import Settings


class Engine:
    """Waits to begin, then sends until it is ended."""

    def __init__(self, begin_at) -> None:
        self.lease_m = float("inf")
        self.left = False
        self.began_t = None
        self._begin_at = begin_at
        self._stop = gevent.event.Event()

    def run(self) -> None:
        self.began_t = self._begin_at(self._stop)
        if self.began_t is not None:
            self._stop.wait(10)

    def finish(self) -> None:
        self._stop.set()

    def abandon(self, *, drain: bool) -> None:
        self.left = True
        self._stop.set()


class Master:
    """Answers reports, or is silent."""

    def __init__(self) -> None:
        self.silent = False
        self.reports: list[dict] = []
        self.engines: list[Engine] = []
        self.left_with: list[int] = []
        self.clock = SystemClock()
        self.member = Member(self._take, self.clock, {}, self.left_with.append)

    def _take(self, kind: str, report: dict) -> None:
        self.reports.append(report)
        if not self.silent:
            beat = {"test": report["test"], "m": report["m"], "t": self.clock.wall_s() + 100}
            gevent.spawn(self.member.take_beat, beat)

    def share(self) -> None:
        settings = Settings(rate=10).environment()
        share = {"test": 5, "index": 1, "workers": 2, "settings": settings, "evidence": True}
        self.member.take_share(share)

    def begin(self) -> None:
        self.member.begin(self._engine)

    def _engine(self, settings, clock, begin_at, pens) -> Engine:
        # In the master's time, a hundred seconds ahead of this host's.
        assert clock.wall_s() - self.clock.wall_s() == pytest.approx(100, abs=1)
        assert (settings.worker, settings.workers, settings.run_dir) == (1, 2, None)
        self.engines.append(Engine(begin_at))
        return self.engines[-1]

    @property
    def state(self) -> str:
        return self.reports[-1]["state"] if self.reports else ""

    def wait_for(self, state: str) -> None:
        with gevent.Timeout(5):
            while self.state != state:
                gevent.sleep(0.01)


@pytest.fixture
def master():
    return Master()


def test_it_compares_clocks_makes_ready_begins_when_told_and_ends_when_told(master):
    master.share()
    master.begin()
    master.wait_for(READY)
    assert [report["state"] for report in master.reports[: member.EXCHANGES]] == [
        MEASURING
    ] * member.EXCHANGES
    master.member.take_go({"test": 5, "begin_t": 123.0})
    gevent.sleep(0.15)
    assert master.engines[0].began_t == 123.0
    # The lease runs from when the report was written that was answered last.
    gevent.sleep(0.4)
    answered = {report["m"] + LEASE_S for report in master.reports}
    assert master.engines[0].lease_m in answered
    master.member.take_finish({"test": 5})
    master.wait_for(DONE)
    master.member.finish()
    assert master.state == DONE
    assert master.left_with == []


def test_what_is_told_of_another_test_changes_nothing(master):
    master.share()
    master.begin()
    master.wait_for(READY)
    master.member.take_go({"test": 4, "begin_t": 1.0})
    master.member.take_finish({"test": 4})
    master.member.take_beat({"test": 4, "m": master.clock.monotonic_s() + 99, "t": 0.0})
    gevent.sleep(0.2)
    assert master.state == READY
    assert master.engines[0].lease_m < master.clock.monotonic_s() + LEASE_BEFORE_GO_S + 1
    master.member.take_finish({"test": 5})
    master.wait_for(DONE)


def test_a_test_that_was_ended_before_it_began_here_sends_nothing(master):
    master.share()
    master.member.take_finish({"test": 5})
    master.begin()
    master.wait_for(DONE)
    assert master.engines == []


def test_a_worker_without_a_share_takes_no_part(master):
    master.begin()
    gevent.sleep(0.05)
    assert master.reports == []
    master.member.finish()


def test_it_can_be_stopped_while_the_master_does_not_answer(master):
    master.silent = True
    master.share()
    master.begin()
    gevent.sleep(0.05)
    with gevent.Timeout(3):
        master.member.finish()
    assert (master.state, master.reports[-1]["why"]) == (LEFT, "it was stopped")
    assert master.engines == []


def test_a_master_that_never_answers_is_an_error(master, monkeypatch):
    monkeypatch.setattr(member, "ANSWER_S", 0.2)
    master.silent = True
    master.share()
    master.begin()
    master.wait_for(FAILED)
    assert "did not answer" in master.reports[-1]["why"]


def test_without_a_master_it_ends_and_leaves(master, monkeypatch):
    monkeypatch.setattr(member, "LEASE_S", 0.5)
    master.share()
    master.begin()
    master.wait_for(READY)
    master.silent = True
    gevent.sleep(0.7)
    # Making ready may take longer.
    assert master.state == READY
    master.member.take_go({"test": 5, "begin_t": 1.0})
    master.wait_for(LEFT)
    assert "heard nothing from the master" in master.reports[-1]["why"]
    gevent.sleep(0.01)
    assert master.left_with == [111]
