"""A Chaos Toolkit journal is read for what happened; its exit status is not asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.outcome import read_journal

OK = {"status": "succeeded", "activity": {"name": "a"}}
BAD = {"status": "failed", "activity": {"name": "a"}, "exception": ["Traceback", "Boom: no\n"]}
MET = {"steady_state_met": True, "probes": [OK]}
UNMET = {
    "steady_state_met": False,
    "probes": [{**OK, "tolerance_met": False, "output": False}],
}


def journal(**changes: Any) -> dict[str, Any]:
    return {
        "status": "completed",
        "deviated": False,
        "experiment": {"method": [{}], "rollbacks": [{}]},
        "steady_states": {"before": MET, "after": MET},
        "run": [OK],
        "rollbacks": [OK],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "outcome", "because"),
    [
        ({}, "passed", "the hypothesis held before and after"),
        ({"deviated": True, "steady_states": {"before": MET, "after": UNMET}}, "deviated", "False"),
        ({"steady_states": {"before": UNMET}, "run": []}, "baseline-not-met", "returned False"),
        (
            {"steady_states": {"before": MET, "during": [MET, UNMET, MET], "after": MET}},
            "deviated",
            "lost in between: a: returned False",
        ),
        ({"run": [BAD]}, "failed", "a: Boom: no"),
        ({"rollbacks": [BAD]}, "failed", "a: Boom: no"),
        ({"run": []}, "failed", "0 of 1 activities of the method"),
        ({"rollbacks": []}, "failed", "0 of 1 activities of the rollbacks"),
        ({"status": "failed"}, "failed", "status is failed"),
        ({"status": "interrupted", "run": []}, "interrupted", "before its end"),
        ({"status": "aborted"}, "aborted", "early"),
    ],
)
def test_each_way_of_ending_has_its_word_and_reason(
    tmp_path: Path, changes: dict[str, Any], outcome: str, because: str
) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps(journal(**changes)))
    reading = read_journal(path)
    assert reading.outcome == outcome and because in reading.because


@pytest.mark.parametrize("text", [None, "", '{"status": "comple', "[]", "{}"])
def test_a_journal_that_is_missing_or_cut_short_means_aborted(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "journal.json"
    if text is not None:
        path.write_text(text)
    assert read_journal(path).outcome == "aborted"
