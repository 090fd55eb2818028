"""The undo log: what it survives, and that everything open is undone once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.chaos import registry
from harness.chaos import undo as undoing
from harness.chaos.procs import Actor
from harness.chaos.recover import recover
from harness.chaos.registry import Reach, ReadBack, UndoFunction
from harness.chaos.undo import (
    LOG_NAME,
    UndoLog,
    UndoRecord,
    fresh_source,
    open_records,
    read_records,
    refuse_new_faults,
    undo_all,
)
from harness.clock import ManualClock, SystemClock
from harness.errors import EvidenceError, ExitStatus, Refused, UndoIncomplete
from tests.target.sample_target import sample


def nowhere(target_file: str) -> Reach:
    """Switches need no connections."""
    return Reach(sample())


class Switches:
    """A system of switches that faults turn off; undo turns them on again."""

    def __init__(self) -> None:
        self.off: set[str] = set()
        self.restored: list[str] = []
        self.fail: Callable[[str], None] = lambda name: None

    def restore(self, before: Mapping[str, Any], reach: object) -> None:
        self.fail(before["switch"])
        self.restored.append(before["switch"])
        self.off.discard(before["switch"])

    def read_back(self, before: Mapping[str, Any], reach: object) -> ReadBack:
        return ReadBack(before["switch"] not in self.off, sorted(self.off))

    def by_hand(self, before: Mapping[str, Any], target: object) -> list[str]:
        return [f"turn {before['switch']} on"]


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switches]:
    system = Switches()
    functions = dict(registry._functions)
    functions["switch"] = UndoFunction(
        system.restore, system.read_back, system.by_hand, within_s=1.0
    )
    functions["look"] = UndoFunction(
        lambda before, reach: None, system.read_back, system.by_hand, within_s=1.0, restores=False
    )
    monkeypatch.setattr(registry, "_functions", functions)
    yield system


def record(name: str, kind: str = "switch") -> UndoRecord:
    return UndoRecord(f"id-{name}", name, kind, Actor(1, 1), {"switch": name}, "target.yaml")


def make(run_dir: Path, system: Switches, *names: str, kind: str = "switch") -> None:
    log = UndoLog(run_dir, "chaos/x", ManualClock())
    for name in names:
        log.intent(record(name, kind))
        system.off.add(name)
        log.made(f"id-{name}")
    log.close()


def undo(run_dir: Path, **arguments: Any) -> undoing.UndoReport:
    clock = arguments.pop("clock", ManualClock())
    return undo_all(run_dir, clock, source="recover", reach=nowhere, **arguments)


def test_what_was_made_is_undone_latest_first_and_only_once(
    run_dir: Path, switches: Switches
) -> None:
    make(run_dir, switches, "a", "b", "c")
    assert undo(run_dir).undone == ("id-c", "id-b", "id-a")
    assert switches.restored == ["c", "b", "a"] and not switches.off
    assert undo(run_dir) == undoing.UndoReport()
    assert switches.restored == ["c", "b", "a"]


def test_only_the_named_fault_is_undone(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a", "b")
    assert undo(run_dir, fault="a").undone == ("id-a",)
    assert switches.off == {"b"}


def test_an_intent_whose_fault_was_never_made_is_undone_safely(
    run_dir: Path, switches: Switches
) -> None:
    log = UndoLog(run_dir, "chaos/x", ManualClock())
    log.intent(record("a"))
    assert undo(run_dir).undone == ("id-a",)


def test_a_call_that_takes_effect_after_the_first_undo_is_undone_too(
    run_dir: Path, switches: Switches
) -> None:
    log = UndoLog(run_dir, "chaos/x", ManualClock())
    log.intent(record("a"))

    class LateEffect(ManualClock):
        def sleep(self, duration_s: float) -> None:
            if duration_s == undoing.SETTLE_S and len(switches.restored) == 1:
                switches.off.add("a")
            super().sleep(duration_s)

    assert undo(run_dir, clock=LateEffect()).undone == ("id-a",)
    assert switches.restored == ["a", "a"] and not switches.off


@pytest.mark.parametrize("last", ["made", "undone"])
def test_a_log_torn_at_any_byte_of_its_last_line_is_recovered_from(
    tmp_path: Path, switches: Switches, last: str
) -> None:
    whole = tmp_path / "whole"
    log = UndoLog(whole, "chaos/x", ManualClock())
    log.intent(record("a"))
    log.made("id-a")
    if last == "undone":
        log.undone("id-a", restored=True, observed={})
    data = (whole / LOG_NAME).read_bytes()
    start = data.rstrip(b"\n").rindex(b"\n") + 1
    for size in range(start, len(data)):
        run_dir = tmp_path / f"{last}-{size}"
        run_dir.mkdir()
        (run_dir / LOG_NAME).write_bytes(data[:size])
        switches.off.add("a")
        # Only a line that lacks nothing but its newline still counts.
        complete = last == "undone" and size == len(data) - 1
        assert undo(run_dir).undone == (() if complete else ("id-a",))
        assert complete or not switches.off
        assert open_records(run_dir) == []


def test_an_intent_torn_at_any_byte_hides_neither_earlier_nor_later_records(
    tmp_path: Path, switches: Switches
) -> None:
    whole = tmp_path / "whole"
    log = UndoLog(whole, "chaos/x", ManualClock())
    log.intent(record("a"))
    log.intent(record("torn"))
    data = (whole / LOG_NAME).read_bytes()
    start = data.rstrip(b"\n").rindex(b"\n") + 1
    for size in range(start + 1, len(data) - 1):
        run_dir = tmp_path / str(size)
        run_dir.mkdir()
        (run_dir / LOG_NAME).write_bytes(data[:size])
        UndoLog(run_dir, "chaos/y", ManualClock()).intent(record("b"))
        assert [r.undo for r in open_records(run_dir)] == ["id-a", "id-b"]
        assert read_records(run_dir)[1] == 1


def test_one_failing_undo_stops_no_other_and_is_tried_again(
    run_dir: Path, switches: Switches
) -> None:
    make(run_dir, switches, "a", "bad", "c")
    failures = iter([OSError("unreachable"), OSError("unreachable")])

    def fail_twice(name: str) -> None:
        if name == "bad" and (error := next(failures, None)):
            raise error

    switches.fail = fail_twice
    report = undo(run_dir)
    assert report.undone == ("id-c", "id-a", "id-bad") and report.complete
    assert not switches.off


def test_an_undo_that_keeps_failing_is_incomplete_and_recover_can_try_again(
    run_dir: Path, switches: Switches
) -> None:
    make(run_dir, switches, "a", "bad")

    def fail(name: str) -> None:
        if name == "bad":
            raise OSError("unreachable")

    switches.fail = fail
    clock = ManualClock(monotonic_s=0.0)
    report = undo(run_dir, clock=clock)
    assert report.undone == ("id-a",) and not report.complete
    with pytest.raises(UndoIncomplete, match="unreachable") as raised:
        report.raise_if_incomplete()
    assert raised.value.exit_status == ExitStatus.UNDO_INCOMPLETE == 113
    lines = [json.loads(line) for line in (run_dir / LOG_NAME).read_text().splitlines()]
    attempts = [line["attempt"] for line in lines if line["kind"] == "undo_failed"]
    assert attempts == [1, 2, 3, 4, 5]
    assert clock.monotonic_s() == pytest.approx(0.2 + 0.4 + 0.8 + 1.6)
    switches.fail = lambda name: None
    assert undo(run_dir).undone == ("id-bad",)


def test_an_undo_that_changes_nothing_is_not_believed(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a")
    registry._functions["switch"] = UndoFunction(
        lambda before, reach: None, switches.read_back, switches.by_hand, within_s=1.0
    )
    report = undo(run_dir)
    assert [f.error for f in report.failed] == ["read back: ['a']"]
    assert [r.undo for r in open_records(run_dir)] == ["id-a"]
    last = [json.loads(x) for x in (run_dir / "history.jsonl").read_text().splitlines()][-2]
    assert last["kind"] == "undo.readback" and last["restored"] is False


def test_a_system_that_does_not_come_back_is_a_finding_not_an_open_fault(
    run_dir: Path, switches: Switches
) -> None:
    make(run_dir, switches, "a", kind="look")
    report = undo(run_dir)
    assert report.complete and report.not_restored == ("id-a",) and report.undone == ()
    assert open_records(run_dir) == []


def test_a_kind_nobody_knows_is_left_open_and_told(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a", kind="__import__('os').system")
    report = undo(run_dir)
    assert "no undo function of kind" in report.failed[0].error


def test_of_twenty_recovers_at_once_one_undoes_each_record(
    run_dir: Path, switches: Switches
) -> None:
    make(run_dir, switches, "a", "b")
    reports: list[undoing.UndoReport] = []
    threads = [
        threading.Thread(
            target=lambda: reports.append(recover(run_dir, clock=SystemClock(), reach=nowhere))
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(switches.restored) == ["a", "b"]
    assert sorted(len(r.undone) for r in reports) == [*[0] * 19, 2]


def test_an_undo_waits_for_another_only_so_long(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a")
    with (
        undoing.lock_log(run_dir, ManualClock()),
        pytest.raises(TimeoutError, match="locked by another undo"),
    ):
        undo(run_dir, lock_timeout_s=1.0)
    assert switches.off == {"a"}


def test_with_nothing_to_do_recover_writes_nothing(run_dir: Path, switches: Switches) -> None:
    assert recover(run_dir, clock=ManualClock()).undone == ()
    assert list(run_dir.iterdir()) == []
    make(run_dir, switches, "a")
    undo(run_dir)
    before = {p.name: p.read_bytes() for p in run_dir.iterdir()}
    recover(run_dir, clock=ManualClock())
    assert {p.name: p.read_bytes() for p in run_dir.iterdir()} == before


def test_recover_says_when_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no such run folder"):
        recover(tmp_path / "none")


def test_a_full_disk_does_not_keep_an_undo_from_being_done(
    run_dir: Path, switches: Switches, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run_dir, switches, "a")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("harness.chaos.undo.os.write", full)
        report = undo(run_dir)
    assert report.undone == report.unrecorded == ("id-a",) and not switches.off


def test_no_intent_is_accepted_once_the_run_is_being_stopped(
    run_dir: Path, switches: Switches
) -> None:
    log = UndoLog(run_dir, "chaos/x", ManualClock())
    refuse_new_faults(run_dir, ManualClock(), "a")
    with pytest.raises(Refused, match="being stopped"):
        log.intent(record("a"))
    log.intent(record("b"))
    refuse_new_faults(run_dir, ManualClock())
    with pytest.raises(Refused, match="being stopped"):
        log.intent(record("c"))


def test_each_undo_closes_a_source_of_its_own(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a")
    undo(run_dir)
    make(run_dir, switches, "b")
    assert fresh_source(run_dir / "history.jsonl", "recover") == "recover/2"
    undo(run_dir)
    lines = [json.loads(x) for x in (run_dir / "history.jsonl").read_text().splitlines()]
    for source in ("recover", "recover/2"):
        own = [line for line in lines if line["source"] == source]
        assert [line["seq"] for line in own] == [0, 1, 2, 3]
        assert own[-1] == {**own[-1], "kind": "source.end", "count": 3}


def test_the_log_is_readable_by_its_owner_only(run_dir: Path, switches: Switches) -> None:
    make(run_dir, switches, "a")
    assert (run_dir / LOG_NAME).stat().st_mode & 0o777 == 0o600
