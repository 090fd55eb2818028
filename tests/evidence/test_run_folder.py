"""Whatever is taken from, added to or cut off a run folder is a gap, and never an error.

And the events of one fault, told by several processes, come together in one record.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.clock import ManualClock
from harness.evidence.journal import Journal
from harness.evidence.model import Evidence
from harness.evidence.run import read_run, write_atomic

CELL = {
    "op": "download",
    "region": "us-east-1",
    "zone": "us-east-1a",
    "outcome": "ok",
    "error": "",
    "n": 3,
    "bytes": 30,
    "latency": {"1700": 3},
    "service": {"1690": 3},
    "below": {"0.2": 3},
}
POINT = [1_700_000_000.0, "1"]


def _journal(path: Path, source: str, *lines: tuple[str, dict[str, Any]]) -> None:
    journal = Journal(path, source, ManualClock())
    for kind, data in lines:
        journal.write(kind, **data)
    journal.close()


def _series(folder: Path, name: str) -> dict[str, Any]:
    document = {
        "name": name,
        "query": name,
        "step_s": 1.0,
        "start": 0.0,
        "end": 1.0,
        "status": "success",
        "warnings": [],
        "fetched_t": 2.0,
        "error": None,
        "result": [{"labels": {"pod": "p"}, "points": [POINT]}],
    }
    raw = json.dumps(document).encode()
    write_atomic(folder / f"{name}.json", raw)
    return {"name": name, "file": f"{name}.json", "sha256": hashlib.sha256(raw).hexdigest()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small whole run folder."""
    history = tmp_path / "history.jsonl"
    write_atomic(tmp_path / "plan.json", b"{}")
    _journal(
        history,
        "conductor",
        ("run.start", {"run": "the-run"}),
        ("phase.start", {"phase": "baseline", "fault": None}),
        ("phase.end", {"phase": "baseline", "fault": None}),
        ("phase.start", {"phase": "fault:zone", "fault": "zone"}),
        ("phase.end", {"phase": "fault:zone", "fault": "zone"}),
        ("run.end", {"stopped": None}),
    )
    undo = {"fault": "zone", "undo": "u1"}
    _journal(
        history,
        "chaos/zone",
        ("fault.start", {**undo, "action": "isolate_zone", "targets": ["subnet-a"]}),
        ("fault.made", {"fault": "zone", "call_start_t": 5.0, "call_end_t": 5.5}),
        ("fault.readback", {"fault": "zone", "holds": True, "observed": {}}),
        ("undo.start", undo),
        ("undo.done", undo),
        ("undo.readback", {**undo, "restored": True, "observed": {}}),
    )
    seen = {"subject": "dns:files", "value": ["us-east-1"], "uncertainty_s": 0.5}
    _journal(history, "watch/dns", ("sighting", seen))
    _journal(
        tmp_path / "tallies/w0.jsonl",
        "tally/w0",
        ("tally.start", {"worker": "w0", "rate": 3}),
        (
            "tally",
            {"seconds": {"1700000000": {"planned": 3, "cells": [CELL]}}, "lateness": {"900": 3}},
        ),
        ("tally.end", {"planned": 3, "sent": 3, "not_sent": 0, "in_flight": 0}),
    )
    write = {"object": "o1", "op": "upload", "sha256": "ab", "size_bytes": 2, "planned_t": 1.0}
    _journal(
        tmp_path / "ledger/w0.jsonl",
        "ledger/w0",
        ("write", {**write, "outcome": "acked", "ack_t": 1.1, "region": "us-east-1"}),
        ("delete", {"object": "o2", "outcome": "unsure", "ack_t": 1.2, "region": ""}),
    )
    _journal(
        tmp_path / "ledger/readback.jsonl",
        "readback",
        ("readback", {"object": "o1", "result": "present", "region": "us-east-1"}),
    )
    entries = [_series(tmp_path / "series", name) for name in ("up", "gateway_requests")]
    write_atomic(tmp_path / "series/index.json", json.dumps({"series": entries}).encode())
    return tmp_path


def _told(evidence: Evidence) -> str:
    return "\n".join(f"{gap.source} {gap.what}: {gap.detail}" for gap in evidence.gaps)


def test_the_events_of_a_fault_become_one_record(run: Path) -> None:
    (record,) = read_run(run).actions("zone")
    assert record.targets == ("subnet-a",)
    assert (record.call_start_t, record.call_end_t) == (5.0, 5.5)
    assert (record.holds, record.restored) == (True, True)
    assert record.undo_start_t is not None
    assert record.undo_done_t is not None


def test_a_read_back_belongs_to_the_undo_it_names(run: Path) -> None:
    lines: list[tuple[str, dict[str, Any]]] = [
        (kind, {"fault": "two", **data})
        for kind, data in (
            ("fault.start", {"undo": "first", "targets": []}),
            ("fault.made", {"call_start_t": 1.0, "call_end_t": 2.0}),
            ("fault.start", {"undo": "second", "targets": []}),
            ("fault.made", {"call_start_t": 3.0, "call_end_t": 4.0}),
            ("undo.readback", {"undo": "second", "restored": True}),
            ("undo.readback", {"undo": "first", "restored": False}),
        )
    ]
    _journal(run / "history.jsonl", "chaos/two", *lines)
    first, second = read_run(run).actions("two")
    assert (first.call_start_t, first.restored) == (1.0, False)
    assert (second.call_start_t, second.restored) == (3.0, True)


def test_the_last_read_back_of_an_undo_is_the_one_that_counts(run: Path) -> None:
    again = {"fault": "zone", "undo": "u1", "restored": False}
    _journal(run / "history.jsonl", "watchdog", ("undo.readback", again))
    assert read_run(run).actions("zone")[0].restored is False


JOURNALS = (
    "history.jsonl",
    "tallies/w0.jsonl",
    "ledger/w0.jsonl",
    "ledger/readback.jsonl",
)


@pytest.mark.parametrize("name", JOURNALS)
def test_any_line_deleted_is_a_gap(run: Path, name: str) -> None:
    path = run / name
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(len(lines)):
        path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        assert read_run(run).gaps, f"line {number + 1}: {lines[number]!r}"


@pytest.mark.parametrize("name", JOURNALS)
def test_any_line_told_twice_is_a_gap(run: Path, name: str) -> None:
    path = run / name
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(len(lines)):
        path.write_bytes(b"".join([*lines, lines[number]]))
        assert read_run(run).gaps, f"line {number + 1}: {lines[number]!r}"


@pytest.mark.parametrize("name", JOURNALS)
def test_a_file_cut_off_at_any_byte_is_a_gap_and_no_error(run: Path, name: str) -> None:
    path = run / name
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        evidence = read_run(run)
        # A history cut between two sources' lines lacks a source; only the run knows of it.
        started = {event.source for event in evidence.events}
        assert evidence.gaps or (name == "history.jsonl" and len(started) < 3), length


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from((*JOURNALS, "series/index.json", "series/up.json")),
    at=st.integers(min_value=0, max_value=10_000),
    junk=st.binary(min_size=1, max_size=40),
)
def test_no_junk_in_any_file_is_an_error(run: Path, name: str, at: int, junk: bytes) -> None:
    path = run / name
    whole = path.read_bytes()
    at %= len(whole)
    try:
        path.write_bytes(whole[:at] + junk + whole[at:])
        read_run(run)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "lost"),
    [("tallies/w1.jsonl", False), ("ledger/w1.jsonl", False), ("ledger/w1.jsonl", True)],
)
def test_one_worker_does_not_stand_in_for_another(run: Path, name: str, lost: bool) -> None:
    tally: list[tuple[str, dict[str, Any]]] = [
        ("tally.start", {"worker": "w1"}),
        ("tally.end", {"planned": 0}),
    ]
    _journal(run / "tallies/w1.jsonl", "tally/w1", *tally)
    _journal(run / "ledger/w1.jsonl", "ledger/w1")
    assert read_run(run).gaps == ()
    if lost:
        (run / name).unlink()
    else:
        (run / name).write_bytes(b"")
    assert "w1" in _told(read_run(run))
