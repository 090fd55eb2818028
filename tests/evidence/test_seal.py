"""Whatever of a run's evidence is not as it was when the run ended is a gap."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.clock import SystemClock
from harness.evidence.journal import Journal
from harness.evidence.run import read_run, write_atomic
from harness.evidence.seal import SEAL, broken, sealed

FILES = (
    "plan.json",
    "history.jsonl",
    "deliveries.jsonl",
    "tallies/w0.jsonl",
    "tallies/w1.jsonl",
    "ledger/w0.jsonl",
    "ledger/readback.jsonl",
    "series/index.json",
    "series/up.json",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in FILES:
        write_atomic(tmp_path / name, f"{name} says 1234\n".encode() * 3)
    write_atomic(tmp_path / "undo.jsonl", b"1")
    write_atomic(tmp_path / "verdict.json", b"{}")
    write_atomic(tmp_path / SEAL, sealed(tmp_path))
    return tmp_path


def test_what_is_as_it_was_has_no_gap(run: Path) -> None:
    assert broken(run) == []
    assert set(json.loads((run / SEAL).read_bytes())["files"]) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_any_byte_of_any_file_that_changed_is_seen(run: Path, name: str) -> None:
    path, chance = run / name, random.Random(name)
    whole = path.read_bytes()
    for at in {0, len(whole) - 1, *chance.sample(range(len(whole)), 8)}:
        path.write_bytes(
            whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
        )
        assert [gap.source for gap in broken(run)] == [name], at
    path.write_bytes(whole[:-1])
    assert [gap.source for gap in broken(run)] == [name]
    path.unlink()
    assert [gap.source for gap in broken(run)] == [name]


@pytest.mark.parametrize("name", FILES)
def test_what_was_added_is_seen_save_to_the_history_which_recover_goes_on_with(
    run: Path, name: str
) -> None:
    with (run / name).open("a") as file:
        file.write("more\n")
    assert [gap.source for gap in broken(run)] == ([] if name == "history.jsonl" else [name])


def test_a_file_more_is_seen_and_one_still_being_written_is_none(run: Path) -> None:
    (run / "ledger" / ".w9.jsonl.tmp").write_text("half")
    assert broken(run) == []
    (run / "tallies" / "w9.jsonl").write_text("")
    assert [gap.source for gap in broken(run)] == ["tallies/w9.jsonl"]


def test_what_comes_after_the_run_is_not_under_the_seal(run: Path) -> None:
    (run / "verdict.json").write_text("another")
    (run / "undo.jsonl").write_text("another")
    assert broken(run) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"a": 1}}', '{"files": {"a": {}}}'])
def test_a_seal_that_cannot_be_read_is_a_gap(run: Path, content: str) -> None:
    (run / SEAL).write_text(content)
    assert [gap.detail for gap in broken(run)] == ["the seal cannot be read"]


def begun(run: Path, **data: object) -> None:
    (run / "history.jsonl").unlink()
    journal = Journal(run / "history.jsonl", "conductor", SystemClock())
    journal.write("run.start", **data)
    journal.close()


@pytest.mark.parametrize(("data", "missed"), [({"sealed": True}, True), ({}, False)])
def test_a_run_that_was_to_be_sealed_and_never_was_says_so(
    run: Path, data: dict[str, object], missed: bool
) -> None:
    begun(run, **data)
    (run / SEAL).unlink()
    assert (SEAL in {gap.source for gap in read_run(run).gaps}) == missed


def test_a_seal_that_is_there_is_looked_at_whatever_the_history_says(run: Path) -> None:
    begun(run)
    assert "history.jsonl" in {gap.source for gap in read_run(run).gaps if gap.what == "seal"}
