"""The page is made from the JSON beside it, and says what is not there and what went wrong."""

from __future__ import annotations

import json
import re
import socket

import pytest

from tests.bench import report
from tests.bench.contestants import REPO
from tests.bench.scenarios import _turned

DOCS = REPO / "docs"


@pytest.fixture
def results() -> dict:
    """What the page was made from."""
    found: dict = json.loads((DOCS / "performance.json").read_text())
    return found


def test_the_page_is_what_the_json_beside_it_makes(results) -> None:
    page = (DOCS / "performance.md").read_text()
    assert page == report.render(results), "docs/performance.md is written by `make bench` only"


def test_nothing_of_the_machine_but_its_facts_is_published(results) -> None:
    text = (DOCS / "performance.md").read_text() + json.dumps(results)
    assert not re.search(r"(^|[\s\"'`(])/(home|root|tmp|work|usr|var)/", text)
    host = socket.gethostname()
    assert not re.search(rf"\b{re.escape(host)}[/@]", text)


def test_every_round_has_everyone_and_each_begins_with_another(results) -> None:
    rounds = results["lengths"]["rounds"]
    assert rounds >= 5
    for workload, of in results["closed"].items():
        for name, samples in of.items():
            # One that came to nothing is a problem on the page, and no round twice.
            assert len({s["round"] for s in samples}) == len(samples), (workload, name)
            assert len(samples) == rounds or f"{name}, " in str(results["problems"])
    assert [_turned("abc", n) for n in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_what_is_not_met_or_not_there_is_said(results) -> None:
    for sample in results["closed"]["mix"]["engine"]:
        sample["cpu_us"] *= 100
    results["many"] = {"not_measured": "a process may open 256 files here"}
    results["missing"] = [{"name": "k6", "get": "go install it"}]
    results["problems"] = ["hey, GET 200 B: counted 5, the target 9"]
    page = report.render(results)
    assert re.search(
        r"FastHttpUser / ours \(engine\), mix \| ≥ 9× \| 0\.\d+ \[.*× \| \*\*not met\*\*", page
    )
    assert "Not measured: a process may open 256 files here." in page
    assert "k6 is not installed here, so it is not measured: go install it" in page
    assert "- hey, GET 200 B: counted 5, the target 9" in page
    told = report.summary(results)
    assert "PROBLEM: hey, GET 200 B: counted 5, the target 9" in told
    assert "not measured: k6 (get it: go install it)" in told


def test_a_page_of_a_part_has_only_that_part(results) -> None:
    for name in ("closed", "open", "two_workers", "pace", "freeze", "still", "many"):
        results.pop(name, None)
    page = report.render(results)
    assert "## Flat out" not in page
    assert "not measured" in page
    assert "## Counting and judging" in page


def test_a_machine_that_was_not_quiet_is_said_to_be_so(results) -> None:
    samples = [s for of in results["closed"].values() for s in of["fast"]]
    for cores, said in ((0.99, False), (0.6, True)):
        for sample in samples:
            sample["cores"] = cores
        page = report.render(results)
        assert ("Other work ran on these cores" in page) is said
        assert (f"got {cores:.2f} of its core" in page) is said
