"""Whatever kills or stops the harness, and whenever: what it broke is restored, and it says so.

A few here; ``make storm`` does hundreds (HARNESS_STORM) and prints what must hold.
"""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from harness.errors import ExitStatus

from . import storm, trips
from .conftest import Cloud
from .fake_kubernetes import FakeKubernetes

COUNT = int(os.environ.get("HARNESS_STORM", "0"))
FEW = {("hold", "terminal lost"), ("fault being made", "INT")}


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("watchdog_too", [False, True], ids=["harness", "and its watchdog"])
def test_what_was_in_place_when_it_was_killed_is_restored(
    watchdog_too: bool, cloud: Cloud, aws_url: str, tmp_path: Path
) -> None:
    if COUNT:
        count = COUNT // 4 if watchdog_too else COUNT
        with FakeKubernetes("127.107.0.12") as another:
            clouds = [cloud, Cloud(aws_url, another.url, _folder(tmp_path / "other"))]
            found = []
            for one in storm.storm(clouds, tmp_path / "days", count, watchdog_too=watchdog_too):
                found.append(one)
                print(len(found), one, flush=True)
    else:
        # Into the hold of the second fault or about there.
        found = [storm.killed(cloud, tmp_path / "day", 4.0, watchdog_too=watchdog_too)]
    hit = [one for one in found if one.in_place]
    took = [one.restored_s for one in hit if one.restored_s is not None]
    if took:
        print(f"\n{len(found)} kills, {len(hit)} with a fault in place; restored after")
        print(trips.histogram(took))
        p99, most = trips.quantile(took, 0.99), max(took)
        print(f"p50 {trips.quantile(took, 0.5):.3f} s, p99 {p99:.3f} s, max {most:.3f} s")
    assert [one for one in found if not one.good] == []
    if COUNT and not watchdog_too:
        assert p99 <= 1.0 and most <= 3.0


def test_a_signal_undoes_at_once_and_never_ends_with_0(cloud: Cloud, tmp_path: Path) -> None:
    cells = []
    for number, (phase, signal) in enumerate((p, s) for p in storm.PHASES for s in storm.SIGNALS):
        if COUNT or (phase, signal) in FEW:
            found = storm.cell(cloud, tmp_path / str(number), phase, signal)
            if found is not None:
                cells.append(found)
                print(found)
    print(f"\n{storm.table(cells)}")
    assert len(cells) >= (30 if COUNT else len(FEW))
    if COUNT:
        assert [c for c in cells if not c.good] == []
    else:
        # On a machine that tests have filled nothing is said of how soon.
        assert all(c.restored_s is not None and c.status not in (0, None) for c in cells), cells


@pytest.mark.parametrize("number", [SIGINT, SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize("phase", ["preflight", "baseline"])
def test_a_run_that_was_started_deaf_hears_all_the_same(
    phase: str, number: Signals, cloud: Cloud, tmp_path: Path
) -> None:
    # As what a script puts into its background is deaf to SIGINT.
    with storm.a_day(cloud, tmp_path / "day", only=["region"], deaf_to=[SIGINT, SIGTERM]) as day:
        assert day.until(lambda: storm.PHASES[phase](day))
        day.process.send_signal(number)
        assert day.process.wait(30) == ExitStatus.STOPPED
        assert day.intents() == []


def test_under_nohup_a_hangup_is_no_reason_to_stop(cloud: Cloud, tmp_path: Path) -> None:
    with storm.a_day(cloud, tmp_path / "day", only=["region"], deaf_to=[SIGHUP]) as day:
        assert day.until(lambda: storm.PHASES["baseline"](day))
        day.process.send_signal(SIGHUP)
        assert day.until(lambda: storm.PHASES["cool-down"](day))
        day.process.send_signal(SIGINT)
        assert day.process.wait(30) == ExitStatus.STOPPED
        assert day.saw("run.end", stopped="SIGINT")
