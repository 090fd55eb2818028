"""What polls become as evidence: silence never reads as "no change"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.clock import ManualClock
from harness.evidence.journal import Journal
from harness.watch.recorder import Recorder, Unseen

T0 = 1_700_000_000.0


class Bench:
    """A recorder on a manual clock, and what it wrote."""

    def __init__(self, path: Path, subjects: tuple[str, ...] = ("db:a",)) -> None:
        self.path = path
        self.clock = ManualClock(T0, 1000.0)
        self.recorder = Recorder(
            Journal(path, "watch/x", self.clock),
            self.clock,
            observer="x",
            period_s=1.0,
            subjects=subjects,
            unknown_after_s=3.0,
        )

    def poll(self, values: dict[str, Any], took_s: float = 0.25) -> None:
        """A poll that takes ``took_s``, then the rest of the period."""
        began_m = self.clock.monotonic_s()
        self.clock.advance(took_s)
        self.recorder.answered(began_m, values)
        self.clock.advance(1.0 - took_s)

    def lines(self, kind: str | None = None) -> list[dict[str, Any]]:
        read = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in read if kind in (None, line["kind"])]

    def sightings(self) -> list[tuple[float, str, Any, float]]:
        return [
            (round(s["t"] - T0, 3), s["subject"], s["value"], s["uncertainty_s"])
            for s in self.lines("sighting")
        ]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "history.jsonl")


def test_it_says_what_it_will_watch_before_the_first_poll(bench: Bench) -> None:
    (start,) = bench.lines()
    assert (start["kind"], start["source"], start["seq"]) == ("watch.start", "watch/x", 0)
    assert (start["observer"], start["period_s"], start["subjects"]) == ("x", 1.0, ["db:a"])


def test_a_value_is_written_at_start_and_when_it_changes_only(bench: Bench) -> None:
    for value in ("up", "up", "up", "down", "down", "up"):
        bench.poll({"db:a": value})
    assert bench.sightings() == [
        (0.25, "db:a", "up", 1.25),
        (3.25, "db:a", "down", 1.25),
        (5.25, "db:a", "up", 1.25),
    ]


def test_the_uncertainty_reaches_back_to_the_last_poll_that_saw_the_old_value(
    bench: Bench,
) -> None:
    bench.poll({"db:a": "up"})
    for _ in range(2):
        bench.recorder.failed("refused")
        bench.clock.advance(1.0)
    bench.poll({"db:a": "down"}, took_s=0.5)
    assert bench.sightings()[-1] == (3.5, "db:a", "down", 3.5)


def test_failing_polls_that_last_become_unknown_and_then_known_again(bench: Bench) -> None:
    bench.poll({"db:a": "up"})
    for _ in range(4):
        bench.recorder.failed("refused")
        bench.clock.advance(1.0)
    bench.poll({"db:a": "up"})
    assert [(s[2], s[0]) for s in bench.sightings()] == [
        ("up", 0.25),
        ("unknown", 4.0),
        ("up", 5.25),
    ]
    assert bench.sightings()[-1][3] == 5.25


def test_a_short_failure_changes_nothing_but_is_counted(bench: Bench) -> None:
    bench.poll({"db:a": "up"})
    bench.recorder.failed("refused")
    bench.clock.advance(1.0)
    bench.poll({"db:a": "up"})
    bench.recorder.beat()
    assert len(bench.sightings()) == 1
    (beat,) = bench.lines("watch.beat")
    assert (beat["polls"], beat["errors"], beat["last_error"]) == (3, 1, "refused")


def test_time_alone_makes_a_value_unknown_when_no_poll_returns(bench: Bench) -> None:
    bench.poll({"db:a": "up"})
    bench.clock.advance(2.5)
    bench.recorder.tick()
    assert bench.sightings()[-1][2] == "unknown"


def test_what_was_expected_and_never_seen_becomes_unknown(bench: Bench) -> None:
    for _ in range(4):
        bench.clock.advance(1.0)
        bench.recorder.failed("refused")
    assert bench.sightings() == [(4.0, "db:a", "unknown", 4.0)]


def test_one_subject_unseen_does_not_hide_the_others(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "h.jsonl", ("db:a", "db:b"))
    bench.poll({"db:a": 1, "db:b": 1})
    for n in range(5):
        bench.poll({"db:a": 2 + n, "db:b": Unseen("region down")})
    assert [v for _, s, v, _ in bench.sightings() if s == "db:a"] == [1, 2, 3, 4, 5, 6]
    assert [v for _, s, v, _ in bench.sightings() if s == "db:b"] == [1, "unknown"]


def test_a_subject_that_is_missing_from_an_answer_becomes_unknown(bench: Bench) -> None:
    bench.poll({"db:a": 1})
    for _ in range(5):
        bench.poll({})
    assert [v for _, _, v, _ in bench.sightings()] == [1, "unknown"]
    bench.recorder.beat()
    assert "missing" in bench.lines("watch.beat")[-1]["last_error"]


def test_an_overtaken_answer_does_not_undo_a_newer_one(bench: Bench) -> None:
    asked_early_m = bench.clock.monotonic_s()
    bench.clock.advance(1.0)
    bench.poll({"db:a": "new"})
    bench.recorder.answered(asked_early_m, {"db:a": "old"})
    assert [v for _, _, v, _ in bench.sightings()] == ["new"]


def test_the_end_counts_every_line_and_nothing_follows_it(bench: Bench) -> None:
    bench.poll({"db:a": 1})
    bench.recorder.close()
    bench.recorder.close()
    bench.poll({"db:a": 2})
    bench.recorder.failed("x")
    bench.recorder.beat()
    lines = bench.lines()
    assert [line["kind"] for line in lines] == [
        "watch.start",
        "sighting",
        "watch.beat",
        "source.end",
    ]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    assert lines[-1]["count"] == 3


def test_after_a_line_that_could_not_be_written_the_source_never_ends(tmp_path: Path) -> None:
    """A full disk must show as a gap: no end line, though later lines might fit again."""

    class FullOnce(Journal):
        full = False

        def write(self, kind: str, /, **data: Any) -> dict[str, Any]:
            if self.full:
                self.full = False
                raise OSError(28, "No space left on device")
            return super().write(kind, **data)

    clock = ManualClock(T0)
    journal = FullOnce(tmp_path / "h.jsonl", "watch/x", clock)
    recorder = Recorder(journal, clock, observer="x", period_s=1, subjects=(), unknown_after_s=3)
    journal.full = True
    recorder.answered(clock.monotonic_s(), {"a": 1})
    recorder.answered(clock.monotonic_s(), {"a": 2})
    recorder.close()
    assert recorder.broken is not None
    assert "source.end" not in (tmp_path / "h.jsonl").read_text()
