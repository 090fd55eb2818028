"""Every defect is caught with the right finding and status, and no healthy day is called ill."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from pathlib import Path

import pytest

from harness.errors import ExitStatus
from harness.plan.model import OBJECTIVES, Plan
from harness.selftest import check
from harness.selftest.cases import AREAS, DAYS, DEFECTS, HEALTHY, Case, read_cases, read_days
from harness.selftest.check import FALSE_ALARM, MISSED, Checker, judge_folder, table
from harness.verdict import Finding, Outcome, Verdict

#: The module, which the function of the same name hides.
JUDGE = sys.modules["harness.verdict.judge"]
REPO = Path(__file__).resolve().parents[2]
#: What is judged of every run, whatever its objectives are.
ALWAYS = (
    "evidence complete",
    "generator healthy",
    "planned rate sent",
    "content",
    "fault landed",
    "undone",
    "experiment",
    "pods replaced",
    "routing",
    "database moved",
    "zone back",
)
#: And of deliveries, beside what became of the version.
OF_DELIVERIES = (
    "canary share",
    "bad version gone",
    "stable version intact",
    "no request failed",
    "enough pods available",
)


@cache
def days() -> dict[str, Plan]:
    return read_days({name: REPO / path for name, path in DAYS.items()})


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for file in (DEFECTS, HEALTHY) for case in read_cases(file, days()))


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_judge_says_what_is_so(case: Case, checker: Checker) -> None:
    result = checker.check(case)
    assert result.good, f"{result.outcome}: {result.why}"


def test_there_are_enough_of_both_and_each_kind_of_finding_is_tried() -> None:
    defects = [case for case in cases() if not case.healthy]
    assert len(defects) >= 40
    assert len(cases()) - len(defects) >= 40
    assert {case.area for case in defects} == set(AREAS)
    assert {case.plan.name for case in cases() if case.healthy} == {p.name for p in days().values()}
    for kind in [*ALWAYS, *OF_DELIVERIES, *(objective.kind for objective in OBJECTIVES)]:
        assert any(case.finds.partition(":")[0] == kind for case in defects), kind


def test_the_days_have_every_objective_there_is() -> None:
    asked = {type(o) for plan in days().values() for o in plan.objectives}
    assert asked == set(OBJECTIVES)


def always(outcome: Outcome, status: ExitStatus, folder: Path) -> Verdict:
    """A judge that always says the same, whatever it finds."""
    return dataclasses.replace(judge_folder(folder), outcome=outcome, exit_status=status)


@pytest.mark.parametrize(
    ("outcome", "status", "wrong"),
    [
        (Outcome.PASS, ExitStatus.PASS, MISSED),
        (Outcome.FAIL, ExitStatus.OBJECTIVE_FAILED, FALSE_ALARM),
        (Outcome.UNKNOWN, ExitStatus.UNKNOWN, FALSE_ALARM),
    ],
)
def test_a_judge_that_always_says_the_same_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
    checker: Checker,
    outcome: Outcome,
    status: ExitStatus,
    wrong: str,
) -> None:
    monkeypatch.setattr(check, "judge_folder", lambda folder: always(outcome, status, folder))
    some = [case for case in cases() if case.healthy][:2]
    some += [case for case in cases() if case.exit_status not in (status, ExitStatus.PASS)][:2]
    results = [checker.check(case) for case in some]
    assert any(result.outcome == wrong for result in results)
    assert sum(not result.good for result in results) >= 2


#: Checks of the judge, and a defect for each of their findings.
CHECKS = {
    "judge_evidence": ("one-of-two-generators-killed", "run-without-an-end"),
    "judge_generator": ("generator-is-late",),
    "judge_content": ("wrong-bytes", "nothing-verified"),
    "judge_rate": ("generator-stalls",),
    "judge_landing": ("fault-never-lands",),
    "judge_undo": ("fault-still-in-place", "undo-was-not-read-back"),
    "judge_system": ("pods-not-replaced", "lb-keeps-dead-zone", "database-stays-in-the-lost-zone",
                     "zone-never-serves-again", "experiment-deviated"),
    "judge_availability": ("a-fifth-of-a-second-of-outage",),
    "judge_error_rate": ("errors-in-the-baseline",),
    "judge_latency": ("slow-in-one-zone",),
    "judge_throughput": ("too-little-throughput",),
    "judge_error_budget": ("budget-spent",),
    "judge_burn_rate": ("budget-burns",),
    "judge_agreement": ("metric-lies-low",),
    "judge_recovery": ("recovery-relapses",),
    "judge_failover": ("dns-never-fails-over",),
    "judge_failback": ("failback-never-happens",),
    "judge_durability": ("uploads-lost", "deletes-undone"),
    "judge_canary": ("bad-canary-promoted", "bad-pods-left", "stable-version-loses-a-pod",
                     "canary-share-far-above-its-weight", "good-canary-given-up"),
    "judge_blue_green": ("switch-never-happens", "a-request-fails-in-the-switch"),
    "judge_rolling_update": ("rolling-update-stalls", "rolling-update-below-availability"),
    "judge_scaling": ("hpa-does-nothing", "hpa-of-one-zone-does-nothing", "hpa-never-scales-back"),
    "judge_degrades": ("breaker-never-opens", "errors-not-degraded", "stop-not-felt"),
    "judge_whole_again": ("breaker-never-closes", "degraded-once-more"),
    "judge_only_declared": ("degraded-without-fault",),
    "judge_fires": ("alert-never-delivered",),
    "judge_resolves": ("alert-never-resolves",),
    "judge_no_other": ("another-alert-fires",),
    "judge_regression": ("slower-than-before",),
    "judge_mttr": ("repairs-take-too-long",),
    "judge_mtbf": ("fails-too-often",),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_finds_nothing_wrong_any_more_is_found_out(
    monkeypatch: pytest.MonkeyPatch, checker: Checker, name: str
) -> None:
    real = getattr(JUDGE, name)

    def content(*args: object) -> list[Finding]:
        found = real(*args)
        findings = [found] if isinstance(found, Finding) else list(found)
        return [dataclasses.replace(finding, outcome=Outcome.PASS) for finding in findings]

    def one(*args: object) -> Finding:
        return content(*args)[0]

    several = name in ("judge_system", "judge_scaling") or real in JUDGE._PER_DELIVERY.values()
    patched = content if several else one
    monkeypatch.setattr(JUDGE, name, patched)
    for table_ in (JUDGE._PER_PHASE, JUDGE._PER_DELIVERY):
        for kind, check_ in table_.items():
            if check_ is real:
                monkeypatch.setitem(table_, kind, patched)
    for case in (case for case in cases() if case.name in CHECKS[name]):
        assert checker.check(case).outcome == MISSED, case.name


def test_every_check_named_is_one_of_the_judges_and_every_defect_named_is_there() -> None:
    assert set(CHECKS) == {name for name in vars(JUDGE) if name.startswith("judge_")}
    assert {name for names in CHECKS.values() for name in names} <= {c.name for c in cases()}


def test_the_right_status_for_the_wrong_reason_is_missed(checker: Checker) -> None:
    case = next(case for case in cases() if case.name == "dns-never-fails-over")
    for other in (
        dataclasses.replace(case, finds="durability"),
        dataclasses.replace(case, phase="baseline"),
        dataclasses.replace(case, says="the moon is full"),
    ):
        result = checker.check(other)
        assert result.outcome == MISSED
        assert "no such finding" in result.why


def test_the_table_counts_what_was_caught_missed_and_called_ill(checker: Checker) -> None:
    caught, healthy = cases()[0], next(case for case in cases() if case.healthy)
    missed = dataclasses.replace(caught, name="missed", finds="durability")
    alarm = dataclasses.replace(caught, name="alarm", finds="", exit_status=ExitStatus.PASS)
    lines = list(table([checker.check(case) for case in (caught, healthy, missed, alarm)]))
    assert lines[-1].split() == ["all", "2", "1", "1", "2", "1"]
    assert [line.split()[0] for line in lines[:4]] == ["caught", "right", "MISSED", "FALSE"]


def test_a_day_is_the_same_again_and_another_one_is_not(checker: Checker, tmp_path: Path) -> None:
    case = next(case for case in cases() if case.name == "random-arrivals")
    other = dataclasses.replace(case, world=dataclasses.replace(case.world, seed=99))
    contents = []
    for name, shown in (("a", case), ("b", case), ("c", other)):
        Checker(keep=tmp_path / name).check(shown)
        folder = tmp_path / name / case.name
        contents.append(
            {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        )
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
