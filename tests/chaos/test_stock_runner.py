"""Each way in which stock ``chaos run`` loses a rollback, or calls a failure completed.

The fault is really made and Chaos Toolkit really runs; what goes wrong is
:mod:`tests.chaos.misbehaving`. However it ends, nothing stays broken and nothing is called passed.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.driver import ChaosDriver, ExperimentResult
from harness.chaos.recover import recover
from harness.chaos.undo import HISTORY_NAME, UndoReport, open_records
from harness.chaos.watchdog import start_watchdog

from .conftest import Cloud
from .fake_kubernetes import FakeKubernetes

OURS, NETWORK = "tests.chaos.misbehaving", "harness.chaos.actions.network"


def python(func: str, module: str = OURS, **arguments: Any) -> dict[str, Any]:
    return {"type": "python", "module": module, "func": func, "arguments": arguments}


def action(provider: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "action", "name": provider.get("func", "it"), "provider": provider, **more}


def probe(tolerance: Any, *values: Any) -> list[dict[str, Any]]:
    """A hypothesis whose probe returns one of ``values`` after the other."""
    given = python("probe", values=values)
    return [{"type": "probe", "name": "probe", "tolerance": tolerance, "provider": given}]


BREAK = action(python("isolate_zone", NETWORK, zone="us-east-1a"))
UNDO = action(python("undo_all", "harness.chaos.actions.undo"))
RANGE = {"type": "range", "range": [0, 1]}


@dataclass(frozen=True)
class Row:
    """An experiment, and how it must be said to have ended."""

    says: str
    method: list[dict[str, Any]] = field(default_factory=lambda: [BREAK])
    rollbacks: list[dict[str, Any]] = field(default_factory=lambda: [UNDO])
    probes: list[dict[str, Any]] = field(default_factory=list)
    control: tuple[str, str] | None = None
    runtime: dict[str, Any] = field(default_factory=dict)
    made: bool = True
    journal: bool = True

    def experiment(self, fault: str) -> dict[str, Any]:
        whole: dict[str, Any] = {
            "version": "1.0.0", "title": "a row", "description": "of what goes wrong",
            "controls": [{"name": "harness", "provider": {
                "type": "python", "module": "harness.chaos.control",
                "arguments": {"fault": fault}}}],
            "runtime": {"rollbacks": {"strategy": "always"}, **self.runtime},
            "method": self.method, "rollbacks": self.rollbacks,
        }  # fmt: skip
        if self.probes:
            whole["steady-state-hypothesis"] = {"title": "as it should be", "probes": self.probes}
        if self.control:
            hook, how = self.control
            given = {"type": "python", "module": OURS, "arguments": {"hook": hook, "how": how}}
            whole["controls"].append({"name": "other", "provider": given})
        return whole


def during(name: str) -> list[dict[str, Any]]:
    return [BREAK, action(python("signal_self", name=name))]


def rolling_back(name: str) -> list[dict[str, Any]]:
    return [action(python("signal_self", name=name)), UNDO]


CONTINUOUS = {"hypothesis": {"strategy": "continuously", "frequency": 0.1}}
PAUSED = {**BREAK, "pauses": {"after": 0.5}}

ROWS = {
    "SIGINT in a function": Row("interrupted", during("SIGINT")),
    "SIGTERM in a function": Row("failed", during("SIGTERM")),
    "SIGHUP": Row("aborted", during("SIGHUP")),
    "SIGKILL": Row("aborted", during("SIGKILL")),
    "SIGUSR1": Row("interrupted", during("SIGUSR1")),
    "SIGUSR2": Row("interrupted", during("SIGUSR2")),
    "SIGINT in a rollback": Row("interrupted", rollbacks=rolling_back("SIGINT")),
    "SIGTERM in a rollback": Row("failed", rollbacks=rolling_back("SIGTERM")),
    "the action raises after it broke": Row("failed", [action(python("break_and_raise"))]),
    "a rollback raises": Row("failed", rollbacks=[action(python("fail")), UNDO]),
    "the only rollback raises": Row("failed", rollbacks=[action(python("fail"))]),
    "before: out of tolerance": Row("baseline-not-met", probes=probe(True, False), made=False),
    "before: raises": Row("baseline-not-met", probes=probe(True, "raise"), made=False),
    "before: None in a range": Row("aborted", probes=probe(RANGE, None), made=False),
    "after: out of tolerance": Row("deviated", probes=probe(True, True, False)),
    "after: raises": Row("deviated", probes=probe(True, True, "raise")),
    "after: None in a range": Row("aborted", probes=probe(RANGE, 0.5, None)),
    "after: NaN in a range": Row("aborted", probes=probe(RANGE, 0.5, "nan")),
    "continuous: lost, and met again": Row(
        "deviated", [PAUSED], probes=probe(True, True, True, False, True), runtime=CONTINUOUS
    ),
    "a control interrupts": Row("interrupted", control=("after_method", "InterruptExecution")),
    "a control exits before the rollbacks": Row("interrupted", control=("before_rollback", "exit")),
    "a control exits at the end": Row("aborted", control=("after_experiment", "exit")),
    "the journal cannot be written": Row("aborted", journal=False, made=False),
}  # fmt: skip


class Runner:
    """One target, one run folder and one watchdog for all rows; a fault's name for each."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.watchdog = start_watchdog(self.run_dir, [os.getpid()], target_file=cloud.target_file)

    def run(self, row: Row, fault: str) -> ExperimentResult:
        path = self.folder / f"{fault}.json"
        path.write_text(json.dumps(row.experiment(fault)))
        if not row.journal:
            (self.run_dir / "chaos" / f"{fault}.journal.json").mkdir(parents=True)
        driver = ChaosDriver()
        target_file = self.cloud.target_file
        driver.start(self.run_dir, experiment=path, fault=fault, hold_s=0, target_file=target_file)
        return driver.wait(30)

    def made(self, fault: str) -> bool:
        lines = (self.run_dir / HISTORY_NAME).read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return any(e["kind"] == "fault.made" and e["fault"] == fault for e in events)


@pytest.fixture(autouse=True)
def hears_hangups() -> Iterator[None]:
    """Also where the tests were started deaf to them, by nohup: children would be so too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def runner(aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("rows")
    with FakeKubernetes("127.107.0.11") as kubernetes:
        runner = Runner(Cloud(aws_url, kubernetes.url, folder), folder)
        yield runner
        runner.watchdog.close()


@pytest.mark.parametrize("name", ROWS)
def test_however_it_ends_nothing_stays_broken_or_is_called_passed(
    name: str, runner: Runner
) -> None:
    row, fault = ROWS[name], f"row-{list(ROWS).index(name)}"
    result = runner.run(row, fault)
    assert (result.outcome, runner.made(fault)) == (row.says, row.made), result
    assert runner.cloud.healthy() and open_records(runner.run_dir) == []
    assert recover(runner.run_dir) == UndoReport()
