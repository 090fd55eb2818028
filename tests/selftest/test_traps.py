"""The traps of the stock parts, row by row: what they end with, and what the verdict is here.

Each row is a way in which Chaos Toolkit, Prometheus or Locust ends with status 0, or with figures
that look excellent, although something went wrong (docs/selftest.md has the table). Rows of Chaos
Toolkit begin with the journal that it leaves; those of Prometheus are kinds of answers, tried in
``test_lies.py``; those of Locust are days on which the same happens to the traffic.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.outcome import read_journal
from harness.errors import ExitStatus
from harness.plan.model import Plan
from harness.plan.reader import read_plan
from harness.selftest.cases import Case, change
from harness.selftest.check import Checker
from harness.selftest.liar import LIES
from harness.selftest.world import Silence, Trouble, Window, World

ROOT = Path(__file__).resolve().parents[2]
OK = {"status": "succeeded", "activity": {"name": "a"}}
BAD = {"status": "failed", "activity": {"name": "a"}, "exception": ["Boom: no"]}
MET = {"steady_state_met": True, "probes": [OK]}
UNMET = {"steady_state_met": False, "probes": [{**OK, "tolerance_met": False, "output": False}]}


def journal(status: str = "completed", **more: Any) -> dict[str, Any]:
    """A journal of an experiment with one action and two rollbacks."""
    whole = {
        "status": status,
        "deviated": False,
        "experiment": {"method": [{}], "rollbacks": [{}, {}]},
        "steady_states": {"before": MET, "after": MET},
        "run": [OK],
        "rollbacks": [OK, OK],
    }
    return {**whole, **more}


@dataclass(frozen=True)
class Row:
    """A row of the tables. ``stock``: the exit status of the stock tool. ``journal``: what Chaos
    Toolkit leaves (None: none; not given: the row is not its). ``change``: what else is so on that
    day. ``status`` and ``finds``: what must result. ``also``: tests that do it for real."""

    name: str
    stock: int
    status: int
    finds: str
    change: Mapping[str, Any] = field(default_factory=dict)
    journal: dict[str, Any] | str | None = ""
    says: str = ""
    also: tuple[str, ...] = ()


BROKEN = {"chaos.zone.restored": False}
CUT = {"rollbacks": [], "steady_states": {"before": MET, "after": None}}
DRIVER, DOG = "chaos/test_driver.py", "chaos/test_watchdog.py"
#: What Chaos Toolkit leaves in place the watchdog or the driver undoes, as the tests named show
#: (most rows with a real fault in ``chaos/test_stock_runner.py``); the rows that are ``BROKEN``
#: say what follows if even that fails.
CHAOS = (
    Row("nothing happens", 0, 0, "", journal=journal()),
    Row("SIGINT or SIGTERM in an action or pause", 1, 111, "experiment",
        journal=journal("interrupted", **CUT), says="interrupted",
        also=(f"{DRIVER}::test_stop_undoes_at_once_and_says_interrupted",)),
    Row("the same, and the fault stays in place", 1, 113, "undone", BROKEN,
        journal=journal("interrupted", **CUT), says="still in place"),
    Row("SIGTERM swallowed by an action", 0, 111, "experiment", journal=journal(run=[BAD]),
        says="failed"),
    Row("SIGTERM swallowed by a background process", 0, 105, "",
        {"conductor.stopped": "SIGTERM"}, journal=journal(), says="stopped (SIGTERM)"),
    Row("SIGKILL or SIGHUP", -9, 111, "experiment", journal=None, says="aborted: no journal",
        also=(f"{DRIVER}::test_kill_9_of_chaos_toolkit_is_undone_and_says_aborted",
              f"{DOG}::test_kill_9_of_the_experiment_at_any_point_is_healed_without_a_hand")),
    Row("SIGUSR1 or SIGUSR2", 1, 111, "experiment", journal=journal("interrupted", **CUT)),
    Row("a second SIGINT during a rollback", 1, 113, "undone", BROKEN,
        journal=journal("interrupted", rollbacks=[BAD])),
    Row("SIGTERM during a rollback", 0, 113, "undone", BROKEN,
        journal=journal(rollbacks=[BAD, OK])),
    Row("an action raises after breaking", 0, 111, "experiment", journal=journal(run=[BAD]),
        says="failed",
        also=(f"{DRIVER}::test_a_refused_fault_is_a_failed_experiment_whatever_the_exit_status",)),
    Row("a rollback raises", 0, 111, "experiment", journal=journal(rollbacks=[BAD, OK]),
        says="Boom: no",
        also=("chaos/test_control.py::test_what_the_rollbacks_left_open_is_undone_and_stamped",)),
    Row("a rollback raises and the fault stays in place", 0, 113, "undone", BROKEN,
        journal=journal(rollbacks=[BAD, OK])),
    Row("hypothesis before out of tolerance", 0, 111, "experiment",
        {"chaos.zone.made": False, "chaos.zone.restored": None},
        journal=journal(steady_states={"before": UNMET}, run=[]), says="baseline-not-met",
        also=(f"{DRIVER}::test_a_service_that_is_down_beforehand_is_not_broken_further",)),
    Row("hypothesis before raises", 1, 111, "experiment",
        {"chaos.zone.made": False, "chaos.zone.restored": None},
        journal=journal("failed", steady_states={"before": None}, run=[])),
    Row("hypothesis before with a tolerance of the wrong type", 1, 111, "experiment",
        {"chaos.zone.made": False, "chaos.zone.restored": None}, journal=None),
    Row("hypothesis after out of tolerance", 1, 99, "experiment",
        journal=journal(deviated=True, steady_states={"before": MET, "after": UNMET})),
    Row("hypothesis after raises, rollbacks skipped", 1, 111, "experiment",
        journal=journal("failed", deviated=True, rollbacks=[])),
    Row("hypothesis after with NaN against a range", 1, 111, "experiment", journal=None),
    Row("a continuous hypothesis is lost and met again", 0, 99, "experiment",
        journal=journal(steady_states={"before": MET, "during": [MET, UNMET], "after": MET}),
        says="lost in between"),
    Row("a continuous hypothesis with fail-fast", 1, 99, "experiment",
        journal=journal(deviated=True, steady_states={"before": MET, "after": UNMET})),
    Row("a control raises and is silently gone", 0, 111, "evidence complete",
        {"watch.unclosed": ("chaos/zone",)}, journal=journal(), says="chaos/zone"),
    Row("a control interrupts, rollbacks skipped", 1, 111, "experiment",
        journal=journal("interrupted", rollbacks=[])),
    Row("a control exits", 3, 111, "experiment", journal=None),
    Row("a control cannot be imported", 0, 111, "evidence complete",
        {"watch.absent": ("chaos/zone",)}, journal=journal(), says="no record of zone"),
    Row("the journal cannot be written", 1, 111, "experiment", journal=None),
)  # fmt: skip

LOCUST = (
    Row("all well", 0, 0, ""),
    Row("every answer is 500, fast", 1, 99, "error rate",
        {"service.trouble": (Trouble(error="http-500"),)}),
    Row("the target is down at the start", 1, 99, "availability",
        {"service.trouble": (Trouble(error="connection"),)},
        also=("chaos/test_driver.py::test_a_service_that_is_down_beforehand_is_not_broken_further",)),
    Row("one failure among many", 1, 0, "",
        {"service.trouble": (Trouble("baseline", 3.0, 0.02, error="http-500"),)}),
    Row("p99 is 1.2 s", 0, 99, "latency",
        {"service.trouble": (Trouble(share=0.08, latency_s=1.2),)}),
    Row("no request was ever sent", 0, 111, "planned rate sent", {"generator.stalls": (Window(),)}),
    Row("the target dies midway", 1, 99, "availability",
        {"service.trouble": (Trouble("baseline", 15.0, error="connection"),)}),
    Row("the target stands still for three seconds", 0, 99, "latency",
        {"service.trouble": (Trouble("baseline", 10.0, 3.0, latency_s=2.0),)}),
    Row("the target stands still when the run ends", 0, 99, "availability",
        {"service.trouble": (Trouble("cool-down", 7.0, error="timeout"),)}),
    Row("SIGTERM or SIGINT at a fifth of the run", 0, 105, "",
        {"conductor.stopped": "SIGTERM", "generator.killed_s": 18.0}, says="stopped (SIGTERM)"),
    Row("one of two workers is killed", 0, 111, "evidence complete",
        {"generator.workers": 2, "generator.killed_s": 40.0}, says="did not finish",
        also=("load/test_distributed.py::"
              "test_workers_that_go_are_stated_and_a_frozen_one_sends_nothing_when_it_thaws",)),
    Row("all workers are killed", 0, 111, "planned rate sent", {"generator.killed_s": 40.0}),
    Row("the master is killed", -9, 111, "evidence complete",
        {"watch.silent": (Silence("fault:zone", for_s=999, source="load"),)},
        says="load.end",
        also=("load/test_distributed.py::"
              "test_workers_stop_within_two_seconds_of_losing_their_master",)),
    Row("the disk is full", 1, 111, "evidence complete", {"watch.unclosed": ("tally/w0",)},
        says="ends without",
        also=("load/test_fleet.py::"
              "test_evidence_that_cannot_be_written_leaves_a_tally_without_end",)),
)  # fmt: skip

#: Row → the kinds of answers of ``test_lies.py``, or the tests that show it.
READER = "target/test_prometheus_reader.py"
PROMETHEUS: dict[str, tuple[str, ...]] = {
    "a breach in the second series": (
        f"{READER}::test_each_series_of_a_vector_is_judged_not_only_the_first",
        "two-series",
    ),
    "an empty vector": ("empty",),
    "NaN": ("nan",),
    "+Inf": ("infinite",),
    "a sample an hour old": ("stale", "future"),
    "warnings: partial response": ("partial",),
    "200 with status error": ("error-with-data",),
    "503": ("503",),
    "422": (f"{READER}::test_a_bad_answer_is_a_gap_with_its_reason_within_the_deadline",),
    "200 with HTML, or a body cut short": ("html", "half", "cut", "nothing"),
    "no answer, or one that drips": ("never", "drip", "drip-head"),
    "nobody there": (f"{READER}::test_nobody_there_is_unreachable_at_once",),
    "a redirect": ("redirect",),
    "an old value that looks healthy for a rate window": (
        f"{READER}::test_an_expression_is_as_old_as_the_selector_it_names",
        "frozen",
    ),
}


@cache
def plan() -> Plan:
    return read_plan(ROOT / "experiments/gamedays/selftest.yaml")


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


@pytest.mark.parametrize("row", [*CHAOS, *LOCUST], ids=lambda row: row.name)
def test_a_trap_ends_as_it_should_whatever_the_stock_status(
    row: Row, checker: Checker, tmp_path: Path
) -> None:
    world = World()
    if row.journal != "":
        path = tmp_path / "journal.json"
        if row.journal is not None:
            path.write_text(json.dumps(row.journal))
        reading = read_journal(path)
        world = change(world, "chaos.zone.outcome", str(reading.outcome))
        world = change(world, "chaos.zone.because", reading.because)
    for where, value in row.change.items():
        world = change(world, where, value)
    case = Case(
        name=row.name,
        what="",
        area="chaos",
        world=world,
        plan=plan(),
        finds=row.finds,
        phase="",
        says=row.says,
        exit_status=ExitStatus(row.status),
    )
    result = checker.check(case)
    assert result.good, f"{result.outcome}: {result.why}"


def test_the_stock_statuses_alone_would_have_been_green() -> None:
    green = [row.name for row in (*CHAOS, *LOCUST) if row.stock == 0 and row.status != 0]
    assert len(green) >= 15


def test_every_row_of_prometheus_is_a_kind_of_answer_or_a_test() -> None:
    kinds = {lie.name for lie in LIES}
    for row, shown_by in PROMETHEUS.items():
        assert shown_by, row
        for name in shown_by:
            assert name in kinds or exists(name), (row, name)


def test_the_tests_that_rows_name_exist() -> None:
    for row in (*CHAOS, *LOCUST):
        for name in row.also:
            assert exists(name), (row.name, name)


def test_the_page_lists_every_row() -> None:
    page = (ROOT / "docs/selftest.md").read_text()
    for name in [*(row.name for row in (*CHAOS, *LOCUST)), *PROMETHEUS]:
        assert f"| {name} |" in page, name


def exists(name: str) -> bool:
    """Whether ``tests/FILE::FUNCTION`` is there."""
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    if not function or not path.is_file():
        return False
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)
