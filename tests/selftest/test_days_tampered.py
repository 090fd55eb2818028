"""Simulated days that pass do so no more when something is taken from their evidence.

As ``tests/verdict/test_tampering.py`` does it with recorded runs, of which none has deliveries,
alerts or a history.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evidence.model import Event, Evidence
from harness.evidence.run import evidence_from, read_run
from harness.plan.model import Plan
from harness.selftest.cases import read_days
from harness.selftest.simulate import Simulator
from harness.selftest.world import World
from harness.verdict import Outcome, judge


class Day:
    """One day's plan and evidence."""

    def __init__(self, name: str, folder: Path) -> None:
        Simulator(read_days()[name]).write(World(), folder)
        self.plan = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
        self.evidence = read_run(folder)

    def passes(self, evidence: Evidence) -> bool:
        return judge(self.plan, evidence).outcome is Outcome.PASS

    def without(self, gone: Callable[[Event], object]) -> Evidence:
        """The evidence as if those lines had never been written: no number is missing."""
        was = self.evidence
        return evidence_from(
            run=was.run,
            events=[event for event in was.events if not gone(event)],
            tallies=list(was.tallies),
            ledger=was.ledger,
            readbacks=was.readbacks,
            passes=was.passes,
            listings=was.listings,
            followed=was.followed,
            series=was.series,
            gaps=[],
        )


@pytest.fixture(
    scope="module", params=["deliveries", "alerts", "scaling", "degradation", "history"]
)
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    return Day(request.param, tmp_path_factory.mktemp(request.param))


def test_nobody_can_be_missing_who_was_to_tell_of_the_day(day: Day) -> None:
    assert day.passes(day.without(lambda event: False))
    for source in sorted({event.source for event in day.evidence.events}):
        assert not day.passes(day.without(lambda e, s=source: e.source == s)), source


def test_no_kind_of_line_can_be_missing(day: Day) -> None:
    # Marks only spare a reader the tallies, which are judged.
    kinds = {(e.kind, e.text("fault")) for e in day.evidence.events if e.kind[:5] != "mark."}
    for kind in sorted(kinds):
        left = day.without(lambda e, k=kind: (e.kind, e.text("fault")) == k)
        assert not day.passes(left), kind


def test_what_each_delivery_and_each_receiver_was_is_not_missed_in_vain(day: Day) -> None:
    """What is judged of a rollout is not told by another, nor of a receiver."""
    stems = ("rollout:", "deployment:", "receiver:", "hpa:")
    seen = {e.text("subject") for e in day.evidence.events if e.text("subject").startswith(stems)}
    for subject in sorted(seen):
        assert not day.passes(day.without(lambda e, s=subject: e.text("subject") == s)), subject
    for name in day.plan.receivers:
        told = day.without(lambda e, n=name: e.kind == "alert.delivery" and e.text("receiver") == n)
        assert not day.passes(told), name


def test_no_series_that_is_judged_by_can_be_missing(day: Day) -> None:
    for name in set(day.evidence.series) - {"gateway_requests"}:
        left = {other: s for other, s in day.evidence.series.items() if other != name}
        assert not day.passes(dataclasses.replace(day.evidence, series=left)), name
