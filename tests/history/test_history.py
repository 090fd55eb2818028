"""What is kept of judged runs, and that it can be kept any number of times."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.history import history, keep
from harness.evidence.run import read_run
from harness.history import History, Record, record_of
from harness.history.record import Repair
from harness.history.store import HistoryError
from harness.plan.model import Plan
from harness.verdict import judge
from tests.verdict.build import PHASES, T0, Day, plan

RUNS = Path(__file__).resolve().parents[1] / "runs"


def kept(day: Day | None = None, **recorded: object) -> Record:
    with_it = plan().with_recorded(started_t=float(T0), **recorded)
    evidence = (day or Day()).evidence()
    return record_of(with_it, evidence, judge(with_it, evidence), "somewhere")


def later(record: Record, by_s: float, **changes: object) -> Record:
    return dataclasses.replace(
        record, id=f"{record.id}+{by_s}", started_t=record.started_t + by_s, **changes
    )


# ---- what is kept ------------------------------------------------------------


def test_a_run_is_kept_by_what_it_showed() -> None:
    record = kept(target_description={"name": "lab", "simulated": True})
    assert (record.plan, record.target, record.simulated) == ("small", "lab", True)
    assert (record.outcome, record.exit_status, record.complete) == ("pass", 0, True)
    assert (record.started_t, record.ended_t) == (T0, T0 + PHASES["cool-down"][1])
    # The pod cost nothing; the zone two seconds and the region three from half a second on.
    assert [repair.fault for repair in record.repairs] == ["zone", "region"]
    assert all(r.high_s is not None and r.low_s <= r.high_s < 6 for r in record.repairs)
    # Windows of three seconds in the 40 s of the baseline and the 10 s of the cool-down.
    assert (record.watched_s, record.failures) == (38 + 8, 0)
    figures = {(f.phase, f.name): f for f in record.figures}
    assert figures["baseline", "availability"].low == 1.0
    assert 0.0099 < figures["baseline", "p95"].low <= figures["baseline", "p95"].high < 0.0101
    assert {f.outcome for f in record.findings} == {"pass"}
    assert json.loads(json.dumps(record.to_json()))["repairs"][0]["fault"] == "zone"


def test_failures_that_nobody_made_are_counted_apart() -> None:
    record = kept(Day(outage=range(20, 24)))
    assert (record.failures, record.outcome) == (1, "fail")
    twice = kept(Day(outage=range(120, 122)))
    assert twice.failures == 1


def test_a_service_that_does_not_come_back_is_a_repair_without_an_end() -> None:
    record = kept(Day(dns_fails_over=False))
    (repair,) = [r for r in record.repairs if r.fault == "region"]
    assert repair.high_s is None
    assert repair.low_s > 15


def test_a_run_that_left_evidence_out_is_not_complete() -> None:
    day = Day().without(lambda e: e.source == "watch/dns")
    assert not kept(day).complete


# ---- the file ------------------------------------------------------------


def test_the_same_run_is_there_once_and_as_it_was_judged_last(tmp_path: Path) -> None:
    file = History(tmp_path / "deep" / "history.sqlite")
    assert file.runs() == ()
    record = kept()
    assert file.add(record) is True
    assert file.add(record) is False
    assert file.runs() == (record,)
    changed = dataclasses.replace(record, outcome="fail", repairs=(Repair("zone", 1.0, None),))
    assert file.add(changed) is False
    assert file.runs() == (changed,)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_runs_are_told_apart_and_in_order(tmp_path: Path) -> None:
    file, record = History(tmp_path / "h.sqlite"), kept()
    for by_s, changes in ((9.0, {}), (3.0, {"plan": "other"}), (6.0, {"target": "cloud"})):
        file.add(later(record, by_s, **changes))
    assert [r.started_t - T0 for r in file.runs()] == [3, 6, 9]
    assert [r.started_t - T0 for r in file.runs(plan="small")] == [6, 9]
    before = file.before(record.target, record.service)["runs"]
    assert [r["started_t"] - T0 for r in before] == [3, 9]
    assert "findings" not in before[0]


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(HistoryError, match="cannot be used"):
        History(path).runs()
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(HistoryError, match="it has version 7, 1 is read"):
        History(path).add(kept())


def test_a_record_that_fails_half_way_leaves_what_was(tmp_path: Path) -> None:
    file, record = History(tmp_path / "h.sqlite"), kept()
    file.add(record)
    broken = dataclasses.replace(record, repairs=(Repair("zone", None, None),))  # type: ignore[arg-type]
    with pytest.raises(HistoryError):
        file.add(broken)
    assert file.runs() == (record,)


# ---- the verbs ------------------------------------------------------------


def test_run_folders_are_kept_listed_and_compared(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sqlite")

    def said(*words: str) -> str:
        result = CliRunner().invoke(history, ["--file", path, *words], catch_exceptions=False)
        return result.output

    assert "no run is kept" in said()
    folder = str(RUNS / "lab-passes")
    assert said("add", folder).startswith("kept: ")
    assert said("add", folder).startswith("replaced: ")
    name = History(Path(path)).runs()[0].plan
    assert said("list").count("\n") == 1
    assert "pass" in said("list", "--plan", name)
    lines = said("trend", name).splitlines()
    assert len(lines) == 2 and "%" in lines[1] and " ms" in lines[1]
    assert "no run of other" in said("trend", "other")
    assert "1 more are needed at least" in said("times")
    file, record = History(Path(path)), History(Path(path)).runs()[0]
    file.add(later(record, 60.0))
    told = said("times", "--target", record.target)
    assert f"{record.service} on {record.target}: 2 earlier simulated game days" in told
    assert "to recovery: mean " in told and " and below " in told
    assert "between failures: 0 failures in " in told and "confidence each above" in told
    assert "no run is kept" in said("times", "--target", "other")


def test_a_history_that_cannot_be_written_changes_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "history.sqlite").mkdir()
    folder = RUNS / "lab-passes"
    evidence = read_run(folder)
    with_it = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
    keep(tmp_path, folder, with_it, evidence, judge(with_it, evidence))
    assert "cannot be used" in capsys.readouterr().err
