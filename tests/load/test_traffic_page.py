"""docs/traffic.md says what the code does."""

from __future__ import annotations

import ast
import importlib
import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from harness.load import content, objects, parts, visitors
from harness.plan.behaviour import FIELDS, Behaviour
from harness.plan.reader import parse_plan

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "traffic.md").read_text()
ROWS = dict(re.findall(r"^\| [^|]+ \| `([^`|]+:[^`|]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE))


def in_code(place: str) -> Any:
    """The value of ``module:NAME``, ``module:Class.field`` or ``file.py:NAME``."""
    where, _, name = place.partition(":")
    if where.endswith(".py"):
        # Not imported: a locustfile brings Locust, which patches the whole process.
        assigned = ast.parse((REPO / where).read_text()).body
        return next(
            ast.literal_eval(a.value)
            for a in assigned
            if isinstance(a, ast.Assign) and a.targets[0].id == name  # type: ignore[attr-defined]
        )
    value: Any = importlib.import_module(where)
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("place", sorted(ROWS))
def test_each_number_of_the_page_is_that_of_the_code(place: str) -> None:
    said = ast.literal_eval(ROWS[place])
    assert said == in_code(place)


def test_the_page_leaves_out_nothing_that_can_be_set() -> None:
    fields = {place.rpartition(".")[2] for place in ROWS if ":Behaviour." in place}
    assert fields == set(FIELDS)
    assert len(ROWS) >= 23


def test_what_the_page_says_of_sizes_follows_from_their_distribution() -> None:
    sizes = NormalDist(math.log(content.MEDIAN_SIZE_BYTES), content.SIZE_SIGMA)
    assert math.exp(sizes.inv_cdf(0.9)) / 1024 == pytest.approx(42, abs=0.5)
    assert 1 - sizes.cdf(math.log(parts.FROM_BYTES)) == pytest.approx(0.055, abs=0.0005)
    assert 1 - sizes.cdf(math.log(content.MAX_SIZE_BYTES)) == pytest.approx(0.004, abs=0.0005)


def test_what_the_page_says_of_users_is_what_little_says() -> None:
    usual = Behaviour()
    per_arrival = (1 - 1 / usual.steps) * usual.think_s
    assert "1,260 at 200 arrivals per second, 63,000 at 10,000" in PAGE
    assert per_arrival * 200 == pytest.approx(1260)
    assert per_arrival * 10_000 == pytest.approx(63_000)
    assert per_arrival * 20_000 < visitors.MOST
    assert objects.KEEP_AT_LEAST < objects.KEEP_AT_MOST


def test_the_plan_of_the_page_is_one() -> None:
    said = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert said is not None
    keys = "".join(line + "\n" for line in said[1].splitlines()[2:])
    lab = REPO / "experiments" / "gamedays" / "lab.yaml"
    plan = parse_plan(lab.read_text().replace("  seed: 7\n", "  seed: 7\n" + keys), lab)
    assert plan.traffic.behaviour == {
        "steps": 10,
        "think_s": 7,
        "hot_share": 0.2,
        "hot_objects": 3,
        "verify": 0.1,
        "resumed": 0.5,
        "interrupted": 0.1,
    }
