"""Files of cases: what is not understood is refused, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ExitStatus, PlanInvalid
from harness.plan.model import Plan
from harness.plan.reader import read_plan
from harness.selftest.cases import Case, read_cases
from harness.selftest.world import Chaos, Trouble

GOOD = """\
- name: slow
  what: all of it is slow
  in: service
  change:
    service.trouble: [{phase: baseline, latency_s: 1, share: 0.5}]
    chaos.zone.holds: never
    region.dns_s: never
    plan.traffic.arrivals: poisson
  finds: latency
  phase: baseline
  says: succeeded within
  exit: 99
- {name: well, what: nothing, in: service}
"""


@pytest.fixture(scope="module")
def plan(repo: Path) -> Plan:
    return read_plan(repo / "experiments/gamedays/selftest.yaml")


def read(text: str, plan: Plan, tmp_path: Path) -> list[Case]:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    return read_cases(path, {"losses": plan})


def test_a_case_changes_what_it_names_and_nothing_else(plan: Plan, tmp_path: Path) -> None:
    slow, well = read(GOOD, plan, tmp_path)
    assert slow.world.service.trouble == (Trouble(phase="baseline", latency_s=1.0, share=0.5),)
    assert slow.world.chaos == (("zone", Chaos(holds=None)),)
    assert slow.world.region.dns_s is None
    assert slow.plan.traffic.arrivals == "poisson"
    assert (slow.finds, slow.phase, slow.exit_status) == (
        "latency",
        "baseline",
        ExitStatus.OBJECTIVE_FAILED,
    )
    assert well.healthy
    assert well.world.region.dns_s is not None
    assert well.plan == plan


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("- name: slow", "- name: ''", 1, "'name' is missing"),
        ("  in: service\n  change", "  in: weather\n  change", 3, "'weather' is no area"),
        ("service.trouble", "service.troubles", 5, "did you mean 'trouble'"),
        ("latency_s: 1,", "latency: 1,", 5, "did you mean 'latency_s'"),
        ("share: 0.5", "share: half", 5, "'half' cannot be share"),
        ("chaos.zone", "chaos.moon", 6, "no fault 'moon'"),
        ("holds: never", "holds: maybe", 6, "'maybe' cannot be holds"),
        ("region.dns_s: never", "region.dns_s.x: 1", 7, "has no fields of its own"),
        ("arrivals: poisson", "arrivals: often", 8, "'often' cannot be arrivals"),
        ("finds: latency", "found: latency", 9, "did you mean 'finds'"),
        ("phase: baseline\n", "phase: breakfast\n", 10, "no phase 'breakfast'"),
        ("exit: 99", "exit: 98", 12, "98 is no exit status"),
        ("exit: 99", "exit: 0", 1, "a healthy day neither"),
        ("name: well", "name: slow", 13, "two cases are called 'slow'"),
        ("  in: service\n  change", "  in: [service\n  change", 4, "expected ',' or ']'"),
    ],
)
def test_what_is_not_understood_is_refused_at_its_place(
    old: str, new: str, line: int, says: str, plan: Plan, tmp_path: Path
) -> None:
    assert old in GOOD
    with pytest.raises(PlanInvalid) as caught:
        read(GOOD.replace(old, new, 1), plan, tmp_path)
    assert says in str(caught.value)
    assert caught.value.where is not None
    assert caught.value.where.line == line


@pytest.mark.parametrize("text", ["", "name: x", "- just words"])
def test_a_file_that_is_no_list_of_cases_is_refused(text: str, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(PlanInvalid, match="list of them"):
        read(text, plan, tmp_path)
