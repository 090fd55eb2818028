"""An answer that says 200 and carries something else is a failure of its own."""

from __future__ import annotations

import ast

import pytest

from harness.evidence.model import TallyCell, TallySecond, WorkerTally
from harness.evidence.run import evidence_from
from harness.verdict import Outcome
from harness.verdict.case import Case
from harness.verdict.traffic import CONTENT_ERRORS, judge_content
from tests.verdict.build import REPO, plan


def case_with(*cells: tuple[str, str, int], end: dict[str, int] | None = None) -> Case:
    """A run of one second in which arrivals ended so: ``(outcome, error, how many)``; ``end``
    is what the generator said at its end."""
    told = tuple(
        TallyCell("download", "us-east-1", "us-east-1a", outcome, error, n, 0, {}, {}, {})
        for outcome, error, n in cells
    )
    second = TallySecond(1_700_000_000, sum(n for _, _, n in cells), told)
    worker = WorkerTally("w0", {}, (second,), (), end)
    evidence = evidence_from(
        run="r", events=[], tallies=[worker], ledger=[], readbacks=[], series={}, gaps=[]
    )
    return Case(plan(), evidence)


def _named_by_the_client() -> set[str]:
    """Every error name that the load client's checks of a body may give."""
    tree = ast.parse((REPO / "harness/load/checks.py").read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    outcomes = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Outcome"]
    return {
        leaf.value
        for call in outcomes
        for argument in call.args[1:]
        for leaf in ast.walk(argument)
        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
    }


def test_every_error_the_client_finds_in_a_body_is_known_to_the_judge() -> None:
    assert _named_by_the_client() == CONTENT_ERRORS


@pytest.mark.parametrize("error", sorted(CONTENT_ERRORS))
def test_one_wrong_body_fails(error: str) -> None:
    finding = judge_content(case_with(("ok", "", 1000), ("failed", error, 1)))
    assert finding.outcome is Outcome.FAIL
    assert f"{error} × 1" in finding.because


def test_error_bodies_are_named_as_such() -> None:
    finding = judge_content(case_with(("ok", "", 10), ("failed", "error-body", 3)))
    assert "error bodies served with status 200" in finding.because


@pytest.mark.parametrize("error", ["timeout", "status-503", "connect-timeout"])
def test_an_honest_failure_is_no_wrong_content(error: str) -> None:
    finding = judge_content(case_with(("ok", "", 10), ("failed", error, 3)))
    assert finding.outcome is Outcome.PASS


def test_without_any_answer_nothing_is_known_of_the_content() -> None:
    assert judge_content(case_with(("failed", "timeout", 9))).outcome is Outcome.UNKNOWN


def test_content_of_which_a_share_was_compared_says_so() -> None:
    finding = judge_content(case_with(("ok", "", 1000), end={"bodies": 800, "verified": 80}))
    assert finding.outcome is Outcome.PASS
    assert "80 of 800 bodies downloaded (10.0%) were compared" in finding.because
    whole = judge_content(case_with(("ok", "", 1000), end={"bodies": 800, "verified": 800}))
    assert whole.because == "1000 answers carried what was stored"


def test_content_of_which_nothing_was_compared_is_unknown() -> None:
    finding = judge_content(case_with(("ok", "", 1000), end={"bodies": 800, "verified": 0}))
    assert finding.outcome is Outcome.UNKNOWN
