"""What the simulator writes has the form of what real runs have left."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from harness.clock import SystemClock
from harness.evidence.deliveries import DELIVERY, STARTED, fingerprint
from harness.evidence.seal import SEAL
from harness.history.record import Figure, Record, Repair
from harness.load import readback
from harness.plan.reader import read_plan
from harness.selftest import deliveries
from harness.selftest.cases import read_days
from harness.selftest.simulate import Simulator
from harness.selftest.world import Generator, World
from harness.target import rollouts
from harness.target.model import AlertReceivers
from harness.watch.prometheus import alert_subject
from harness.watch.receivers import Receivers
from harness.watch.series import SERIES, Fetched

#: Of several generators no run is recorded: ARCHITECTURE.md says what is written of them.
FLEET = {"fleet.start", "worker.clock"}
#: What is written since that run was recorded.
SINCE = {
    "tally.end": {"bodies", "verified"},
    "run.start": {"readbacks", "sealed", "receivers"},
    "readback": {"answers", "phase"},
}
#: Kinds of line since then, and what they hold: of some their writers are asked, below.
PASSES = {"pass.start": {"phase", "chosen", "rate"}, "pass.end": {"phase", "asked"}}
FRAME = {"source", "seq", "t", "m", "kind"}


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
    there |= {kind: FRAME | said for kind, said in PASSES.items()}
    for kind, mine in keys(simulated, pattern).items():
        if kind not in (*FLEET, "listing"):
            assert mine - SINCE.get(kind, set()) <= there[kind], (kind, mine - there[kind])


def test_files_are_those_of_a_real_run(real: Path, simulated: Path) -> None:
    def names(folder: Path) -> set[str]:
        return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}

    known = names(real) | {"tallies/w1.jsonl", "ledger/w1.jsonl", SEAL}
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


# ---- what is written since that run was recorded, beside its writers ---------------------------


def day_of(name: str, folder: Path) -> Path:
    Simulator(read_days()[name]).write(World(), folder)
    return folder


def lines_of(folder: Path, name: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_the_services_list_is_told_as_read_back_tells_it(simulated: Path) -> None:
    (mine,) = lines_of(simulated, "ledger/readback.jsonl", "listing")
    page = readback.compare("sim-", [("sim-00001", "")], "", readback._Own([]))
    assert set(mine) == {*FRAME, "prefix", "error", *page}


def test_rollouts_and_what_their_pods_served_are_told_as_observers_tell_them(
    tmp_path: Path,
) -> None:
    day = day_of("deliveries", tmp_path)
    seen = lines_of(day, "history.jsonl", "sighting")
    item: dict[str, Any] = {"metadata": {"generation": 1}, "spec": {}}
    for prefix, said in (
        ("rollout:", rollouts.rollout_seen(item, [])),
        ("deployment:", rollouts.deployment_seen(item)),
    ):
        mine = [line["value"] for line in seen if line["subject"].startswith(prefix)]
        assert len(mine) > 3
        for value in mine:
            assert value.keys() == said.keys()
    series = json.loads((day / f"series/{deliveries.SERIES}.json").read_text())
    assert series["query"] == SERIES[deliveries.SERIES]
    assert series.keys() == {f.name for f in dataclasses.fields(Fetched)}


def test_alerts_are_told_as_receivers_and_observers_tell_them(tmp_path: Path) -> None:
    day = day_of("alerts", tmp_path / "simulated")
    described = AlertReceivers(
        http="127.0.0.1:0", smtp=None, token="t", receivers={"oncall": "webhook"}
    )
    (tmp_path / "real").mkdir()
    listening = Receivers(described, tmp_path / "real", SystemClock())
    try:
        listening.start()
        inbox = listening.inbox("oncall", "t")
        assert inbox is not None
        labels = {"alertname": "ServiceDown", "severity": "critical", "zone": "us-east-1a"}
        alert = {"status": "firing", "labels": labels, "fingerprint": fingerprint(labels)}
        inbox.take(json.dumps({"version": "4", "alerts": [alert]}).encode())
    finally:
        listening.close()
    for kind in (STARTED, DELIVERY):
        (there,) = lines_of(tmp_path / "real", "history.jsonl", kind)
        mine = lines_of(day, "history.jsonl", kind)
        assert mine and all(line.keys() == there.keys() for line in mine), kind
    first = lines_of(day, "history.jsonl", DELIVERY)[0]
    assert (first["fingerprint"], first["labels"]) == (alert["fingerprint"], labels)
    subjects = {line["subject"] for line in lines_of(day, "history.jsonl", "sighting")}
    assert alert_subject(labels) in subjects
    assert alert_subject(labels).replace("alert:", "alertmanager:") in subjects


def test_the_runs_before_are_told_as_the_history_tells_them(tmp_path: Path) -> None:
    plan = json.loads((day_of("history", tmp_path) / "plan.json").read_text())
    said = {f.name for f in dataclasses.fields(Record)} - {"findings"}
    for run in plan["history"]["runs"]:
        assert run.keys() == said
        for part, kind in (("repairs", Repair), ("figures", Figure)):
            names = {f.name for f in dataclasses.fields(kind)}
            assert all(one.keys() == names for one in run[part])
