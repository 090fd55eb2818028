"""Observers run side by side; one that hangs or breaks neither stops nor falls silent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.watch.watch as module
from harness.clock import SystemClock
from harness.watch.observer import Observer
from harness.watch.watch import Watch


class Fake(Observer):
    """Answers what ``look`` returns; ``renewed`` counts fresh observers."""

    def __init__(self, name: str, look: Callable[[int], Any], **attributes: Any) -> None:
        self.name = name
        self.period_s = 0.02
        self.timeout_s = 0.1
        self.subjects = (f"s:{name}",)
        self.look = look
        self.attributes = attributes
        self.polls = 0
        self.renewed: list[Fake] = []
        self.closed = threading.Event()
        for key, value in attributes.items():
            setattr(self, key, value)

    def poll(self) -> dict[str, Any]:
        self.polls += 1
        return {f"s:{self.name}": self.look(self.polls)}

    def renew(self) -> Fake:
        fresh = Fake(self.name, lambda n: f"fresh {self.name}", **self.attributes)
        self.renewed.append(fresh)
        return fresh

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(autouse=True)
def quick_warden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WARDEN_TICK_S", 0.02)
    monkeypatch.setattr(module, "BEAT_S", 0.05)


def lines(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(run_dir: Path, wanted: Callable[[list[dict[str, Any]]], bool]) -> None:
    ends = time.monotonic() + 5
    while not wanted(lines(run_dir)):
        assert time.monotonic() < ends, lines(run_dir)[-5:]
        time.sleep(0.01)


def values(history: list[dict[str, Any]], subject: str) -> list[Any]:
    return [x["value"] for x in history if x["kind"] == "sighting" and x["subject"] == subject]


def test_each_observer_is_a_source_with_start_beats_and_end(tmp_path: Path) -> None:
    a, b = Fake("a", lambda n: n // 5), Fake("b", lambda n: "same")
    watch = Watch([a, b], tmp_path, SystemClock())
    assert watch.names == ["a", "b"]
    watch.start()
    wait_for(tmp_path, lambda h: sum(x["kind"] == "watch.beat" for x in h) >= 4)
    watch.stop(2)
    history = lines(tmp_path)
    for source in ("watch/a", "watch/b"):
        own = [x for x in history if x["source"] == source]
        assert own[0]["kind"] == "watch.start"
        assert own[-1] == {**own[-1], "kind": "source.end", "count": len(own) - 1}
        assert [x["seq"] for x in own] == list(range(len(own)))
    assert values(history, "s:b") == ["same"]
    assert values(history, "s:a")[:2] == [0, 1]
    assert a.closed.is_set()
    assert watch.broken == {}


def test_a_hung_poll_becomes_unknown_and_a_fresh_observer_goes_on(tmp_path: Path) -> None:
    freed = threading.Event()

    def look(n: int) -> str:
        if n >= 3:
            freed.wait(10)
            return "too late to matter"
        return "fine"

    hung, other = Fake("hung", look), Fake("other", lambda n: n)
    watch = Watch([hung, other], tmp_path, SystemClock())
    watch.start()
    wait_for(tmp_path, lambda h: "fresh hung" in values(h, "s:hung"))
    before = other.polls
    wait_for(tmp_path, lambda h: other.polls > before + 3)
    freed.set()
    assert hung.closed.wait(2), "the abandoned observer lets go of its connections"
    watch.stop(2)
    history = lines(tmp_path)
    assert values(history, "s:hung")[0] == "fine"
    assert values(history, "s:hung")[-1] == "fresh hung"
    beats = [x for x in history if x["source"] == "watch/hung" and x["kind"] == "watch.beat"]
    assert "no answer within 0.1 s" in beats[-1]["last_error"]
    assert history[-1]["kind"] == "source.end"


def test_when_every_poll_hangs_the_warden_still_says_unknown_and_stop_still_ends(
    tmp_path: Path,
) -> None:
    freed = threading.Event()

    class Stuck(Fake):
        def renew(self) -> Fake:
            return Stuck(self.name, self.look, **self.attributes)

    stuck = Stuck("stuck", lambda n: freed.wait(20))
    watch = Watch([stuck], tmp_path, SystemClock())
    watch.start()
    wait_for(tmp_path, lambda h: values(h, "s:stuck") == ["unknown"])
    wait_for(tmp_path, lambda h: any(x.get("errors", 0) >= 5 for x in h))
    assert sum(t.name == "watch-stuck" for t in threading.enumerate()) <= 4
    began = time.monotonic()
    watch.stop(0.3)
    assert time.monotonic() - began < 1.0
    freed.set()
    history = lines(tmp_path)
    assert history[-1]["kind"] == "source.end"
    assert values(history, "s:stuck") == ["unknown"]


def test_an_observer_with_a_bug_is_evidence_not_a_dead_thread(tmp_path: Path) -> None:
    def look(n: int) -> str:
        if n % 2:
            raise KeyError("DBInstances")
        return "fine"

    buggy = Fake("buggy", look)
    watch = Watch([buggy], tmp_path, SystemClock())
    watch.start()
    wait_for(tmp_path, lambda h: any(x.get("errors", 0) >= 3 for x in h))
    watch.stop(2)
    assert buggy.polls >= 5
    beat = [x for x in lines(tmp_path) if x["kind"] == "watch.beat"][-1]
    assert beat["last_error"] == "KeyError: 'DBInstances'"


def test_two_observers_of_one_name_are_refused(tmp_path: Path) -> None:
    """One source's numbering would hide the other's losses."""
    with pytest.raises(ValueError, match="share a name"):
        Watch([Fake("a", str), Fake("a", str)], tmp_path, SystemClock())
