"""Where traffic enters: as the plan says, unless a rate was asked for that only a CDN carries."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from sample_target import sample

from harness.errors import PlanInvalid
from harness.plan.model import Entry, Plan
from harness.plan.reader import parse_plan
from harness.target.entry import url, with_entry

EDGE = "http://cdn.fileservice.lab:8080"
REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "experiments/gamedays/lab.yaml").read_text()


def plan(rate: str | None = None, entry: str = "") -> Plan:
    text = TEXT.replace("  seed: 7", f"  seed: 7\n  entry: {entry}") if entry else TEXT
    return parse_plan(text, REPO / "plan.yaml", rate=rate)


@pytest.mark.parametrize(
    ("rate", "said", "asked", "enters"),
    [
        ("400/s", "", None, "origin"),
        ("401/s", "", None, "edge"),
        ("10000/s", "origin", None, "edge"),
        ("10000/s", "", "origin", "origin"),
        ("300/s", "", "edge", "edge"),
        ("300/s", "edge", None, "edge"),
        ("300/s", "edge", "origin", "origin"),
    ],
)
def test_a_rate_beyond_the_origins_goes_through_the_edge(
    rate: str, said: str, asked: Entry | None, enters: str
) -> None:
    target = sample(edge_url=EDGE, origin_rate_max=400.0)
    found, line = with_entry(plan(rate, said), target, entry=asked, rate_asked_for=True)
    assert found.traffic.entry == enters
    assert url(found, target) == (EDGE if enters == "edge" else target.service_url)
    by_itself = enters == "edge" and said != "edge" and asked is None
    assert bool(line) == by_itself
    if by_itself:
        assert rate.removesuffix("/s") in line
        assert EDGE in line
        assert "\n" not in line


def test_a_plan_that_nobody_overrides_enters_where_it_says() -> None:
    many = dataclasses.replace(plan("10000/s"), file="plan.yaml")
    target = sample(edge_url=EDGE, origin_rate_max=400.0)
    assert with_entry(many, target) == (many, "")
    for told in (sample(edge_url=EDGE), sample(origin_rate_max=400.0)):
        assert with_entry(many, told, rate_asked_for=True) == (many, "")


@pytest.mark.parametrize("asked", [None, "edge"])
def test_an_edge_that_is_not_there_is_refused(asked: Entry | None) -> None:
    with pytest.raises(PlanInvalid, match="sample has none") as raised:
        with_entry(plan(entry="" if asked else "edge"), sample(), entry=asked)
    assert raised.value.hint and "edge_url" in raised.value.hint


def test_the_entry_survives_the_run_folder_and_old_runs_have_none() -> None:
    edge = plan(entry="edge")
    assert Plan.from_json(edge.to_json()) == edge
    assert "through the edge" in edge.traffic.rate_words
    old = plan().to_json()
    old["traffic"].pop("entry", None)
    assert Plan.from_json(old).traffic.entry == "origin"


def test_a_misspelt_entry_is_refused_with_its_line() -> None:
    with pytest.raises(PlanInvalid, match="no place to enter at") as raised:
        plan(entry="cdn")
    assert raised.value.where is not None
    assert raised.value.where.key == "traffic.entry"
