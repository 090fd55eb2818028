"""What is judged is explained: each kind of objective, and each finding of every run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.plan.model import OBJECTIVES
from tests.selftest.test_defects import ALWAYS, OF_DELIVERIES


@pytest.fixture(scope="module")
def page(repo: Path) -> str:
    return (repo / "docs/verdicts.md").read_text()


def test_each_kind_of_objective_has_its_section(page: str) -> None:
    headings = [heading.lower() for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)]
    for kind in {objective.kind for objective in OBJECTIVES}:
        assert any(re.match(rf"{kind}\b", heading) for heading in headings), kind
    assert headings == sorted(headings)


def test_each_finding_of_every_run_is_in_the_table(page: str) -> None:
    named = set(re.findall(r"^\| ([a-z ]+) \|", page, re.MULTILINE))
    assert set(ALWAYS) <= named
    for finding in OF_DELIVERIES:
        assert finding in page


def test_links_lead_somewhere(repo: Path) -> None:
    for path in [*(repo / "docs").glob("*.md"), *repo.glob("*.md")]:
        for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / link).exists(), (path.name, link)
