"""One run at a time on a target, and none on what the one before left in place."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.lease import holder_of, lease, lease_file
from harness.chaos.procs import Actor
from harness.chaos.undo import UndoLog, UndoRecord
from harness.clock import SystemClock
from harness.errors import ExitStatus, Refused
from harness.target.model import Target
from tests.target.sample_target import EAST, WEST, sample


def _start(number: int, state: Path, begin: Any, ended: Any, results: Any) -> None:
    begin.wait(30)
    try:
        with lease(sample(), state / f"run-{number}", state):
            results.put("ran")
            ended.wait(30)
    except Refused as error:
        results.put(f"{error.exit_status:d} {error.message}")


def test_of_twenty_starts_at_once_exactly_one_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begin, ended, results = context.Event(), context.Event(), context.Queue()
    processes = [
        context.Process(target=_start, args=(n, tmp_path, begin, ended, results), daemon=True)
        for n in range(20)
    ]
    for process in processes:
        process.start()
    begin.set()
    told = [results.get(timeout=30) for _ in processes]
    ended.set()
    for process in processes:
        process.join(30)
    assert told.count("ran") == 1
    refused = [said for said in told if said != "ran"]
    assert len(refused) == 19
    assert all(
        said.startswith(f"{ExitStatus.REFUSED:d} the target sample is in use") for said in refused
    )


def test_a_lease_ends_with_its_run_and_names_it_meanwhile(tmp_path: Path) -> None:
    run = tmp_path / "runs/day/1"
    assert holder_of(sample(), tmp_path) is None
    with lease(sample(), run, tmp_path):
        assert holder_of(sample(), tmp_path) == str(run)
        with pytest.raises(Refused, match=str(run)), lease(sample(), tmp_path / "2", tmp_path):
            raise AssertionError("two at once")
    assert holder_of(sample(), tmp_path) is None
    with lease(sample(), tmp_path / "2", tmp_path):
        pass
    assert lease_file(sample(), tmp_path).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other", "prometheus_url": "http://127.0.0.9"}, True),
        ({"kubeconfig": "/elsewhere"}, True),
        ({"account": "210987654321"}, False),
        ({"aws_endpoint_url": "http://127.61.0.1"}, False),
        ({"namespace": "other"}, False),
        ({"regions": (replace(EAST, vpc_id="vpc-of-another-lab"), WEST)}, False),
        ({"regions": (WEST, EAST)}, True),
    ],
)
def test_a_target_is_known_by_what_it_is_and_not_by_its_file(
    tmp_path: Path, change: dict[str, Any], same: bool
) -> None:
    other: Target = replace(sample(), **change)
    assert (lease_file(other, tmp_path) == lease_file(sample(), tmp_path)) is same


def test_what_the_run_before_left_in_place_must_be_undone_first(tmp_path: Path) -> None:
    run = tmp_path / "before"
    run.mkdir()
    with lease(sample(), run, tmp_path):
        log = UndoLog(run, "chaos/zone", SystemClock())
        actor = Actor.of(os.getpid())
        log.intent(UndoRecord("zone-1", "zone", "network.restore", actor, {}, "target.yaml"))
        log.close()
    with pytest.raises(Refused) as raised, lease(sample(), tmp_path / "next", tmp_path):
        raise AssertionError("begun")
    assert raised.value.hint == f"harness recover {run}"
    # The run itself may go on, and nothing is asked of a folder that is gone.
    with lease(sample(), run, tmp_path):
        pass
    (run / "undo.jsonl").unlink()
    with lease(sample(), tmp_path / "next", tmp_path):
        pass
