"""Outcomes and what is written of them: the worst of several, a figure that is an interval."""

from __future__ import annotations

import json
import math

import pytest

from harness.errors import ExitStatus
from harness.verdict import Outcome
from harness.verdict.model import (
    Finding,
    Measured,
    Verdict,
    finding_json,
    judge_at_most,
    judge_interval,
    worst,
)

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], UNKNOWN),
        ([PASS], PASS),
        ([PASS, UNKNOWN, PASS], UNKNOWN),
        ([UNKNOWN, FAIL, PASS], FAIL),
        ([PASS, FAIL], FAIL),
        ([UNKNOWN, UNKNOWN], UNKNOWN),
    ],
)
def test_the_worst_of_several_and_of_none_nothing_is_known(
    outcomes: list[Outcome], expected: Outcome
) -> None:
    assert worst(outcomes) is expected


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most"),
    [
        (3, 4, PASS, FAIL),
        (2, 4, PASS, UNKNOWN),
        (2, 2, PASS, PASS),
        (1, 3, UNKNOWN, UNKNOWN),
        (1, 2, UNKNOWN, PASS),
        (0, 1, FAIL, PASS),
        (1, math.inf, UNKNOWN, UNKNOWN),
        (3, math.inf, PASS, FAIL),
        (math.nan, math.nan, UNKNOWN, UNKNOWN),
    ],
)
def test_a_figure_passes_or_fails_a_bound_of_two_only_as_a_whole(
    low: float, high: float, at_least: Outcome, at_most: Outcome
) -> None:
    assert judge_interval(2, low, high) is at_least
    assert judge_at_most(2, low, high) is at_most


def finding(measured: Measured | None) -> Finding:
    return Finding("latency", "baseline", FAIL, measured, "≤ 1 s", "it was slow", ("tallies/",))


def test_a_finding_is_written_with_its_figure_or_without() -> None:
    written = {
        "objective": "latency", "phase": "baseline", "outcome": "fail", "required": "≤ 1 s",
        "because": "it was slow", "evidence": ["tallies/"],
    }  # fmt: skip
    assert finding_json(finding(None)) == {**written, "measured": None}
    assert finding_json(finding(Measured(2.0, 1.5, None, "s"))) == {
        **written,
        "measured": {"value": 2.0, "low": 1.5, "high": None, "unit": "s"},
    }


def test_a_verdict_is_written_to_the_microsecond_and_without_infinities() -> None:
    verdict = Verdict(
        outcome=FAIL,
        exit_status=ExitStatus.OBJECTIVE_FAILED,
        summary="s",
        run="r",
        target={"databases": ()},
        findings=(finding(Measured(1.23456749, -math.inf, math.inf, "s")),),
        timeline=({"t": 1_700_000_000.1234567},),
        phases=({"client": {"share": math.nan, "n": 3, 4: [0.1 + 0.2]}},),
        gaps=(),
    )
    written = json.loads(verdict.to_bytes())
    assert (written["outcome"], written["exit_status"]) == ("fail", 99)
    assert written["findings"][0]["measured"] == {
        "value": 1.234567, "low": None, "high": None, "unit": "s",
    }  # fmt: skip
    assert written["timeline"] == [{"t": 1_700_000_000.123457}]
    assert written["phases"] == [{"client": {"share": None, "n": 3, "4": [0.3]}}]
    assert (written["target"], written["gaps"], written["plan"]) == ({"databases": []}, [], {})


def test_a_verdict_is_written_with_sorted_keys_to_be_read() -> None:
    verdict = Verdict(PASS, ExitStatus.PASS, "", "r", {"b": 1, "a": 2}, (), (), (), ())
    text = verdict.to_bytes().decode()
    assert text.startswith('{\n  "exit_status": 0,\n  "findings": [],')
    assert text.endswith('  "target": {\n    "a": 2,\n    "b": 1\n  },\n  "timeline": []\n}\n')
