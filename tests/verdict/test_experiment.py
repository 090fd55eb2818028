"""What the experiment says of itself is judged too: its hypothesis, and whether it was finished."""

from __future__ import annotations

import dataclasses

import pytest

from harness.verdict import Outcome, judge
from tests.verdict.build import Day, plan


def day_on_which(fault: str, said: str) -> Day:
    """A good day, save that the experiment of ``fault`` ended as ``said``."""
    day = Day()
    for index, event in enumerate(day.events):
        if event.kind == "experiment.end" and event.text("fault") == fault:
            data = {**event.data, "outcome": said, "because": "a probe says so"}
            day.events[index] = dataclasses.replace(event, data=data)
    return day


def test_a_steady_state_that_did_not_come_back_fails() -> None:
    verdict = judge(plan(), day_on_which("zone", "deviated").evidence())
    assert (verdict.outcome, int(verdict.exit_status)) == (Outcome.FAIL, 99)
    (bad,) = [f for f in verdict.findings if f.outcome is not Outcome.PASS]
    assert (bad.objective, bad.phase) == ("experiment", "fault:zone")
    assert bad.because == "deviated: a probe says so"


@pytest.mark.parametrize("said", ["baseline-not-met", "failed", "aborted", "interrupted", ""])
def test_an_experiment_that_was_not_carried_out_is_never_a_pass(said: str) -> None:
    verdict = judge(plan(), day_on_which("pod", said).evidence())
    assert (verdict.outcome, int(verdict.exit_status)) == (Outcome.UNKNOWN, 111)
