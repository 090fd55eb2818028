"""What is shown while a run goes: phase, figures, faults, objectives."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from harness.cli.progress import LiveProgress, PlainProgress, standing
from harness.clock import SystemClock
from harness.evidence.journal import Journal
from harness.load.driver import LiveFigures, TallyReader, live_figures
from harness.load.tally import Tally
from harness.plan.model import Availability, ErrorRate, Latency, Phase, Recovery, Throughput

FAULT = Phase("fault:zone", "fault", "zone", 20.0)
WHERE = {"text": "…", "line": 1, "phases": ("fault:zone",)}
OBJECTIVES = (
    Availability(**{**WHERE, "text": "at least 99.9 %"}, at_least=0.999),
    ErrorRate(**{**WHERE, "text": "below 1 %"}, below=0.01),
    Latency(**{**WHERE, "text": "p95 below 200ms"}, fraction=0.95, below_s=0.2),
    Throughput(**{**WHERE, "text": "at least 95 % of planned"}, at_least=0.95),
    Latency("p99 below 1s", ("baseline",), 1, fraction=0.99, below_s=1.0),
    Recovery("within 30s", ("zone",), 1, within_s=30.0),
)
GOOD = LiveFigures(
    at_t=1_700_000_000, planned_rate=200.0, achieved_rate=199.0, error_ratio=0.0005, p95_s=0.012
)


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        (GOOD, [True, True, True, True]),
        (replace(GOOD, error_ratio=0.005), [False, True, True, True]),
        (replace(GOOD, error_ratio=0.01), [False, False, True, True]),
        (replace(GOOD, p95_s=0.2), [True, True, False, True]),
        (replace(GOOD, achieved_rate=189.0), [True, True, True, False]),
        (replace(GOOD, p95_s=None), [True, True, None, True]),
        (replace(GOOD, not_sent_ratio=0.001), [True, True, True, True]),
        (replace(GOOD, not_sent_ratio=0.002), [None] * 4),
        (replace(GOOD, not_sent_ratio=0.5, error_ratio=0.9, achieved_rate=9.0), [None] * 4),
        (LiveFigures(), [None] * 4),
        (None, [None] * 4),
    ],
)
def test_objectives_of_the_phase_are_held_against_the_last_seconds(
    figures: LiveFigures | None, met: list[bool | None]
) -> None:
    assert list(standing(OBJECTIVES, "fault:zone", figures).values()) == met


def test_a_percentile_that_is_not_measured_live_is_left_open() -> None:
    assert standing(OBJECTIVES, "baseline", GOOD) == {"latency: p99 below 1s": None}


def test_a_terminal_shows_phase_figures_faults_and_objectives() -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=False)
    live = Live("", console=console, auto_refresh=False)
    shown = LiveProgress(live, OBJECTIVES)
    shown.phase(FAULT, 2, 7)
    shown.tick(14.2, replace(GOOD, p95_s=0.25), {"pod": "undone", "zone": "in place"})
    console.print(live.renderable)
    told = out.getvalue()
    for part in (
        "[3/7] fault:zone: 199 of 200 req/s, errors 0.05 %, P95 250 ms · 14 s to go",
        "faults: pod undone · zone in place",
        "✓ availability: at least 99.9 %",
        "✗ latency: p95 below 200ms",
    ):
        assert part in told


def test_plain_lines_say_what_is_in_place_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = PlainProgress()
    shown.phase(FAULT, 2, 7)
    faults = {"pod": "undone", "zone": "being made"}
    for remaining_s in (20.0, 15.0, 9.9, 9.8):
        shown.tick(remaining_s, GOOD, faults)
    assert capsys.readouterr().out.splitlines() == [
        "[3/7] fault:zone (20 s)",
        "    199 of 200 req/s, errors 0.05 %, P95 12 ms, zone being made, 10 s to go",
    ]


def test_what_was_not_sent_is_no_error_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(Journal(tmp_path / "tally.jsonl", "load", SystemClock()), [0.2])
    for n in range(10):
        if n < 7:
            tally.planned(5.5)
            tally.not_sent(5.5, "download", "generator-late")
        else:
            tally.took_off(5.5, 0.001)
            tally.done(5.5, "download", ("", ""), ("ok" if n < 9 else "failed", ""), 9, 0.1, 0.1)
    tally.flush()
    reader = TallyReader(tmp_path / "tally.jsonl")
    reader.poll()
    figures = live_figures(5, list(reader.seconds.items()), 0)
    assert (figures.planned_rate, figures.achieved_rate) == (10, 2)
    assert figures.error_ratio == pytest.approx(1 / 3)
    assert figures.not_sent_ratio == pytest.approx(0.7)
    shown = PlainProgress()
    shown.tick(20.0, figures, {})
    shown.tick(10.0, figures, {})
    assert capsys.readouterr().out == (
        "    2 of 10 req/s, not sent 70.00 %, errors 33.33 %, P95 100 ms, 10 s to go\n"
    )
