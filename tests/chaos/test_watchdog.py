"""Somebody undoes when the process that made the fault, or its owner, is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.chaos.procs import Actor
from harness.chaos.recover import recover
from harness.chaos.undo import HISTORY_NAME, UndoReport, open_records
from harness.chaos.watchdog import WatchdogHandle, is_watching, start_watchdog
from harness.errors import Refused

from .actor import POINTS
from .conftest import Cloud

Children = list[subprocess.Popen[str]]
ACTOR = Path(__file__).with_name("actor.py")


@pytest.fixture
def children() -> Iterator[Children]:
    started: Children = []
    yield started
    for child in started:
        child.kill()
        child.wait()


def start(children: Children, *argv: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
    )
    children.append(child)
    return child


def start_actor(children: Children, cloud: Cloud, run_dir: Path, point: str) -> Actor:
    actor = start(children, sys.executable, str(ACTOR), str(cloud.target_file), str(run_dir), point)
    assert actor.stdout is not None
    assert actor.stdout.readline() == f"at {point}\n"
    return Actor.of(actor.pid)


def kill(children: Children, pid: int) -> None:
    """``kill -9``, reaped."""
    child = next(c for c in children if c.pid == pid)
    child.kill()
    child.wait()


def until(condition, within_s: float = 10.0) -> float:
    """Wait for ``condition()``; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("point", POINTS)
def test_kill_9_of_the_experiment_at_any_point_is_healed_without_a_hand(
    cloud: Cloud, run_dir: Path, children: Children, point: str
) -> None:
    actor = start_actor(children, cloud, run_dir, point)
    assert is_watching(run_dir)  # its own watchdog, started before the fault
    kill(children, actor.pid)
    assert until(cloud.healthy) < 3.0
    until(lambda: not is_watching(run_dir))
    assert open_records(run_dir) == []
    assert recover(run_dir) == UndoReport()
    assert cloud.healthy()


def test_kill_9_of_the_owner_kills_the_actor_first_and_undoes(
    cloud: Cloud, run_dir: Path, children: Children
) -> None:
    owner = start(children, "sleep", "60")
    watchdog = start_watchdog(run_dir, [owner.pid], target_file=cloud.target_file)
    actor = start_actor(children, cloud, run_dir, "half-made")
    assert not cloud.healthy()
    kill(children, owner.pid)
    assert until(cloud.healthy) < 3.0
    assert not actor.alive()
    assert watchdog._process.wait(10) == 0
    lines = [json.loads(x) for x in (run_dir / HISTORY_NAME).read_text().splitlines()]
    own = [line["kind"] for line in lines if line["source"] == "watchdog"]
    assert own == ["undo.start", "undo.done", "undo.readback", "source.end"]
    assert recover(run_dir) == UndoReport()


def test_the_watchdog_outlives_ctrl_c_and_a_closed_terminal(
    cloud: Cloud, run_dir: Path, children: Children
) -> None:
    owner = start(children, "sleep", "60")
    watchdog = start_watchdog(run_dir, [owner.pid], target_file=cloud.target_file)
    start_actor(children, cloud, run_dir, "made")
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(watchdog.pid, number)
    assert os.getsid(watchdog.pid) == watchdog.pid
    kill(children, owner.pid)
    assert until(cloud.healthy) < 3.0
    assert watchdog._process.wait(10) == 0


def test_a_watchdog_with_nothing_to_do_leaves_no_trace_in_the_history(
    run_dir: Path, children: Children
) -> None:
    owner = start(children, "sleep", "60")
    watchdog = start_watchdog(run_dir, [owner.pid])
    kill(children, owner.pid)
    assert watchdog._process.wait(10) == 0
    assert not (run_dir / HISTORY_NAME).exists()


def test_a_released_watchdog_undoes_what_is_still_open_and_goes(
    cloud: Cloud, run_dir: Path, children: Children
) -> None:
    owner = start(children, "sleep", "60")
    watchdog = start_watchdog(run_dir, [owner.pid], target_file=cloud.target_file)
    start_actor(children, cloud, run_dir, "made")
    assert watchdog.close() == 0
    assert cloud.healthy() and not is_watching(run_dir)


def test_an_owner_that_is_gone_already_is_noticed(run_dir: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    watchdog = start_watchdog(run_dir, [gone.pid])
    assert watchdog._process.wait(10) == 0


def test_one_folder_has_one_watchdog(run_dir: Path) -> None:
    first: WatchdogHandle = start_watchdog(run_dir, [os.getpid()])
    with pytest.raises(Refused, match="did not start"):
        start_watchdog(run_dir, [os.getpid()])
    assert "watched already" in (run_dir / "logs" / "watchdog.log").read_text()
    assert first.close() == 0
