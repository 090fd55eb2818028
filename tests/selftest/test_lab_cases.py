"""Runs on a lab as cases: what is run, and what becomes of a run that did not go as it should."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.lab.defects import DEFECTS
from harness.plan.model import Plan
from harness.plan.reader import parse_plan, read_plan
from harness.selftest import lab
from harness.selftest.cases import read_days
from harness.selftest.check import CAUGHT, FALSE_ALARM, MISSED, RIGHT, Result
from harness.selftest.lab import LabCase, LabChecker, read_lab_cases, run_bounded, with_faults
from harness.selftest.simulate import Simulator
from harness.selftest.world import Region, World
from tests.selftest.test_defects import ALWAYS, OF_DELIVERIES

#: Seconds that a run takes beyond its traffic, and a lab to come up and go down. The whole game day
#: of the lab, which has the most to read back, takes both together 29 s longer than its traffic.
BEYOND_S, LAB_S = 28.0, 20.0


@pytest.fixture(scope="module")
def days(repo: Path) -> dict[str, Plan]:
    return read_days({name: repo / path for name, path in lab.DAYS.items()})


@pytest.fixture(scope="module")
def cases(repo: Path, days: dict[str, Plan]) -> dict[str, LabCase]:
    found = (dataclasses.replace(case, plan_file=repo / case.plan_file) for case in
             read_lab_cases(days))  # fmt: skip
    return {case.case.name: case for case in found}


@pytest.fixture(scope="module")
def plans(cases: dict[str, LabCase]) -> dict[str, Plan]:
    """Case → the plan that is run."""
    return {
        name: parse_plan(with_faults(case.plan_file.read_text(), case.faults), case.plan_file)
        for name, case in cases.items()
    }


def test_every_seeded_defect_of_the_lab_is_run_and_must_end_as_it_says(
    cases: dict[str, LabCase],
) -> None:
    alone = [case for case in cases.values() if len(case.lab) < 2]
    run = {name: case for case in alone for name in (*case.lab, case.load) if name}
    assert set(run) == {defect.name for defect in DEFECTS}
    for defect in DEFECTS:
        assert f"exit {int(run[defect.name].case.exit_status)}" == defect.expect
        assert (defect.where == "load") == (run[defect.name].load == defect.name)


def test_a_plan_keeps_the_faults_named_and_what_is_said_of_them(
    cases: dict[str, LabCase], days: dict[str, Plan], plans: dict[str, Plan]
) -> None:
    whole_days = {Path(plan.file).name: plan for plan in days.values()}
    for name, case in cases.items():
        plan, whole = plans[name], whole_days[case.plan_file.name]
        assert [fault.name for fault in plan.faults] == list(case.faults)
        kept = {objective.text for objective in plan.objectives}
        for objective in whole.objectives:
            of = getattr(objective, "faults", None)
            if of and len(of) < len(whole.faults):
                asked = bool(set(of) & set(case.faults))
                assert (objective.text in kept) == asked, (name, objective.text)
        kinds = [objective.kind for objective in plan.objectives]
        assert "availability" in kinds
        # What must be found is judged at all.
        if not case.case.healthy:
            # Of a scaling there are two findings, out and back; of a degradation, while and after.
            finds = case.case.finds.partition(":")[0].removesuffix(" back")
            finds = finds.replace("whole again", "degradation")
            assert any(kind.startswith(finds) for kind in (*kinds, *ALWAYS, *OF_DELIVERIES))


def test_the_whole_takes_less_than_ninety_minutes(
    cases: dict[str, LabCase], plans: dict[str, Plan]
) -> None:
    """What runs take beyond their phases, and labs to come up, is reckoned with room."""
    traffic_s = sum(plan.duration_s for plan in plans.values())
    labs = len({case.lab for case in cases.values()})
    assert traffic_s + BEYOND_S * len(cases) + LAB_S * labs < 90 * 60


class Runs:
    """Instead of ``harness run``: leaves the folder of a simulated day, or none."""

    def __init__(self, plan: Plan, world: World, status: int, *, leaves: bool = True) -> None:
        self.plan, self.world, self.status, self.leaves = plan, world, status, leaves
        self.argv: list[list[str]] = []
        self.labs: list[tuple[str, ...]] = []

    def __call__(self, argv: list[str], deadline_s: float) -> tuple[int, str]:
        self.argv.append(argv)
        if self.leaves:
            runs = Path(argv[argv.index("--runs") + 1])
            Simulator(self.plan).write(self.world, runs / "selftest" / "now")
        return self.status, "it said something"

    @contextmanager
    def lab(self, defects: tuple[str, ...]) -> Iterator[Path]:
        self.labs.append(defects)
        yield Path("target.yaml")


@pytest.fixture
def check(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    simulated = read_plan(repo / "experiments/gamedays/selftest.yaml")
    monkeypatch.chdir(repo)

    def check(
        case: LabCase, status: int, world: World, *, leaves: bool = True
    ) -> tuple[Result, Runs]:
        runs = Runs(simulated, world, status, leaves=leaves)
        monkeypatch.setattr(lab, "run_bounded", runs)
        (result,) = LabChecker(tmp_path, runs.lab).check([case])
        return result, runs

    yield check


SICK = World(region=Region(dns_s=None, clients_s=None))


def test_a_run_is_judged_by_its_folder_and_its_status(check, cases) -> None:
    defect, healthy = cases["lab-dns-never-fails-over"], cases["lab-region"]
    result, runs = check(defect, 99, SICK)
    assert (result.outcome, runs.labs) == (CAUGHT, [("dns-never-fails-over",)])
    assert check(defect, 0, World())[0].outcome == MISSED
    assert check(healthy, 0, World())[0].outcome == RIGHT
    assert check(healthy, 99, SICK)[0].outcome == FALSE_ALARM


def test_a_status_that_is_not_its_folders_is_wrong(check, cases) -> None:
    result, _ = check(cases["lab-dns-never-fails-over"], 1, SICK)
    assert result.outcome == MISSED
    assert "harness run ended with 1" in result.why


def test_a_run_that_never_was_is_wrong(check, cases) -> None:
    assert check(cases["lab-region"], 112, World(), leaves=False)[0].outcome == FALSE_ALARM
    result, _ = check(cases["lab-dns-never-fails-over"], 112, World(), leaves=False)
    assert result.outcome == MISSED
    assert "there was no run (exit status 112): it said something" in result.why


def test_a_defect_of_the_generator_is_passed_on_and_the_labs_are_shared(check, cases) -> None:
    _, runs = check(cases["lab-generator-killed"], 111, World())
    (argv,) = runs.argv
    assert argv[-2:] == ["--defect", "generator-killed"]
    assert runs.labs == [()]


def test_a_process_that_does_not_end_is_ended() -> None:
    assert run_bounded([sys.executable, "-c", "print('well')"], 20) == (0, "well\n")
    sleeper = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
    status, told = run_bounded(sleeper, 1.0)
    assert status < 0
    assert told == "here\n"
