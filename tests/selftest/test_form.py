"""What the simulator writes has the form of what real runs have left."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from harness.plan.reader import read_plan
from harness.selftest.simulate import Simulator
from harness.selftest.world import Generator, World

#: Of several generators no run is recorded: ARCHITECTURE.md says what is written of them.
FLEET = {"fleet.start", "worker.clock"}
#: What is written since that run was recorded.
SINCE = {"tally.end": {"bodies", "verified"}}


@pytest.fixture(scope="module")
def real(repo: Path) -> Path:
    return repo / "tests/runs/lab-passes"


@pytest.fixture(scope="module")
def simulated(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("day")
    plan = read_plan(repo / "experiments/gamedays/selftest.yaml")
    Simulator(plan).write(World(generator=Generator(workers=2)), folder)
    return folder


def keys(folder: Path, pattern: str) -> dict[str, set[str]]:
    """Kind of line → every key its lines have."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.glob(pattern):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            found[record["kind"]] |= set(record)
    return found


@pytest.mark.parametrize("pattern", ["history.jsonl", "tallies/*.jsonl", "ledger/*.jsonl"])
def test_lines_have_no_kind_and_no_key_that_real_ones_lack(
    real: Path, simulated: Path, pattern: str
) -> None:
    there = keys(real, pattern)
    for kind, mine in keys(simulated, pattern).items():
        if kind not in FLEET:
            assert mine - SINCE.get(kind, set()) <= there[kind], (kind, mine - there[kind])


def test_files_are_those_of_a_real_run(real: Path, simulated: Path) -> None:
    def names(folder: Path) -> set[str]:
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}

    known = names(real) | {"tallies/w1.jsonl", "ledger/w1.jsonl"}
    assert names(simulated) <= known


def test_cells_sightings_and_series_are_written_as_real_ones(real: Path, simulated: Path) -> None:
    def cells(folder: Path) -> dict[str, dict[str, type]]:
        lines = (folder / "tallies/w0.jsonl").read_text().splitlines()
        seconds = [json.loads(line).get("seconds", {}) for line in lines]
        found = {}
        for cell in (c for second in seconds for s in second.values() for c in s["cells"]):
            found[cell["outcome"]] = {key: type(value) for key, value in cell.items()}
        return found

    assert cells(simulated)["ok"] == cells(real)["ok"]

    def values(folder: Path) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for line in (folder / "history.jsonl").read_text().splitlines():
            record: dict[str, Any] = json.loads(line)
            if record["kind"] == "sighting" and isinstance(record["value"], dict):
                found[record["subject"].partition(":")[0]] |= set(record["value"])
        return found

    there = values(real)
    for stem, mine in values(simulated).items():
        if stem != "machine":  # recorded before machines were watched
            assert mine <= there[stem], stem

    def series(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / "series/gateway_requests.json").read_text())
        return found

    assert set(series(simulated)) == set(series(real))
    assert set(series(simulated)["result"][0]) == set(series(real)["result"][0])
    labels = set(series(simulated)["result"][0]["labels"])
    assert labels <= set(series(real)["result"][0]["labels"])
