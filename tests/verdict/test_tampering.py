"""A passing run with anything taken out of its evidence is never a pass again.

Over every recorded run of ``tests/runs`` that passes: each kind of line of each file is
deleted (all of those where there are few, a spread-out sample where there are many; ``make
tampering`` tries them all, HARNESS_TAMPER_ALL), each series, each file, and the run is judged
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness.evidence.run as reading
from harness.evidence.lines import sequence_gaps
from harness.evidence.model import Event
from harness.evidence.run import read_run
from harness.evidence.seal import SEAL
from harness.plan.model import Plan
from harness.verdict import Outcome, judge

RUNS = Path(__file__).resolve().parents[1] / "runs"
#: Deletions tried per file and kind of line.
SAMPLE = 8
#: Lines of one source that are left out in turn.
LINES_MAX = 1000
ALL = bool(os.environ.get("HARNESS_TAMPER_ALL"))


def outcome(folder: Path) -> Outcome:
    plan = Plan.from_json(json.loads((folder / "plan.json").read_bytes()))
    return judge(plan, read_run(folder)).outcome


def recorded() -> list[Path]:
    return sorted(p.parent for p in RUNS.glob("*/expected.json"))


def passing() -> list[Path]:
    return [
        r for r in recorded() if json.loads((r / "expected.json").read_text())["outcome"] == "pass"
    ]


@pytest.fixture(params=passing(), ids=lambda run: run.name)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(request.param, copy)
    # By its seal any change is seen; here it must be seen without.
    (copy / SEAL).unlink(missing_ok=True)
    history = copy / "history.jsonl"
    history.write_bytes(history.read_bytes().replace(b',"sealed":true', b""))
    return copy


@pytest.fixture(autouse=True)
def _each_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that is read again and again all but one file is the same as before."""

    def once(read: Callable[[Path, str], tuple[Any, list[Any]]]) -> Callable[..., Any]:
        known: dict[tuple[str, bytes], tuple[Any, list[Any]]] = {}

        def same(path: Path, label: str) -> tuple[Any, list[Any]]:
            key = (label, hashlib.sha256(path.read_bytes()).digest())
            if key not in known:
                known[key] = read(path, label)
            value, gaps = known[key]
            return value, list(gaps)

        return same

    for name in ("read_tally", "read_ledger", "read_readback"):
        monkeypatch.setattr(reading, name, once(getattr(reading, name)))


def group(line: bytes) -> tuple[str, str, str]:
    """Lines that tell the same kind of thing."""
    record = json.loads(line)
    subject = str(record.get("subject", "")).partition(":")[0]
    return str(record["kind"]), str(record["source"]).partition("/")[0], subject


def spread(numbers: list[int], most: int = SAMPLE) -> list[int]:
    """All, or ``most`` of them from first to last."""
    if ALL or len(numbers) <= most:
        return numbers
    step = (len(numbers) - 1) / (most - 1)
    return sorted({numbers[round(i * step)] for i in range(most)})


def deletions(lines: list[bytes]) -> Iterator[tuple[int, tuple[str, str, str]]]:
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        groups[group(line)].append(number)
    for kind, numbers in groups.items():
        for number in spread(numbers):
            yield number, kind


def test_there_is_a_recorded_run_that_passes() -> None:
    assert passing()


@pytest.mark.parametrize("case", recorded(), ids=lambda run: run.name)
def test_a_recorded_run_is_judged_as_expected(case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text())
    plan = Plan.from_json(json.loads((case / "plan.json").read_bytes()))
    verdict = judge(plan, read_run(case))
    assert (verdict.outcome, int(verdict.exit_status)) == (
        expected["outcome"],
        expected["exit_status"],
    )
    told = " ".join(f.because for f in verdict.findings if f.outcome is not Outcome.PASS)
    for words in expected.get("says", []):
        assert words in told


@pytest.mark.parametrize("pattern", ["history.jsonl", "tallies/*.jsonl", "ledger/*.jsonl"])
def test_a_gap_shows_where_any_one_line_is_missing(run: Path, pattern: str) -> None:
    for path in run.glob(pattern):
        events = []
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            record = json.loads(line)
            frame = [record.pop(key) for key in ("source", "seq", "t", "m", "kind")]
            events.append(Event(*frame, record, number))
        assert sequence_gaps(events, path.name) == []
        for source in {event.source for event in events}:
            mine = [event for event in events if event.source == source]
            for index in spread(list(range(len(mine))), LINES_MAX):
                event, left = mine[index], mine[:index] + mine[index + 1 :]
                # Of a source with one line nothing is left; that it is missing is judged elsewhere.
                assert not left or sequence_gaps(left, path.name), f"{path.name}:{event.line}"


def test_no_source_can_be_deleted_nor_all_of_a_kind_even_with_the_rest_numbered_anew(
    run: Path,
) -> None:
    path = run / "history.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert outcome_of(run, lines) is Outcome.PASS
    for source in sorted({line["source"] for line in lines}):
        rest = [line for line in lines if line["source"] != source]
        assert outcome_of(run, rest) is not Outcome.PASS, source
    for kind, fault in sorted({(line["kind"], line.get("fault") or "") for line in lines}):
        # Marks only spare a reader the tallies, which are judged.
        if not kind.startswith("mark."):
            rest = [x for x in lines if (x["kind"], x.get("fault") or "") != (kind, fault)]
            assert outcome_of(run, rest) is not Outcome.PASS, (kind, fault)


def test_no_subject_that_was_to_be_watched_can_be_deleted_even_with_the_rest_numbered_anew(
    run: Path,
) -> None:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_bytes().splitlines()]
    declared = {s for line in lines if line["kind"] == "watch.start" for s in line["subjects"]}
    assert {"health_check:us-east-1", "targets:us-east-1b", "db:files-db-west"} < declared
    for subject in sorted(declared):
        rest = [line for line in lines if line.get("subject") != subject]
        assert outcome_of(run, rest) is not Outcome.PASS, subject


def outcome_of(folder: Path, lines: list[dict[str, Any]]) -> Outcome:
    """The outcome with this history, numbered as if nothing had ever been missing."""
    numbers: Counter[str] = Counter()
    written = []
    for line in lines:
        seq = numbers[line["source"]]
        numbers[line["source"]] += 1
        count = {"count": seq} if line["kind"] == "source.end" else {}
        written.append(json.dumps({**line, "seq": seq, **count}))
    (folder / "history.jsonl").write_text("\n".join(written) + "\n")
    return outcome(folder)


@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("pattern", ["history.jsonl", "tallies/*.jsonl", "ledger/*.jsonl"])
def test_no_line_can_be_deleted(run: Path, pattern: str) -> None:
    tried = 0
    for path in sorted(run.glob(pattern)):
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for number, kind in deletions(lines):
            path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
            assert outcome(run) is not Outcome.PASS, f"{path.name} line {number + 1}: {kind}"
            tried += 1
        path.write_bytes(whole)
    assert tried > 0
    assert outcome(run) is Outcome.PASS


def test_no_file_can_be_deleted_or_cut(run: Path) -> None:
    files = [
        p
        for p in run.rglob("*")
        if p.is_file()
        and p.suffix in (".json", ".jsonl")
        and p.name not in ("plan.json", "expected.json", "history.jsonl")
    ]
    assert files
    for path in files:
        whole = path.read_bytes()
        path.unlink()
        assert outcome(run) is not Outcome.PASS, f"{path} deleted"
        path.write_bytes(whole[: len(whole) // 2])
        assert outcome(run) is not Outcome.PASS, f"{path} cut"
        path.write_bytes(whole)
    assert outcome(run) is Outcome.PASS


def test_no_series_can_leave_the_index(run: Path) -> None:
    path = run / "series" / "index.json"
    whole = path.read_bytes()
    index = json.loads(whole)
    for number in range(len(index["series"])):
        entries = index["series"][:number] + index["series"][number + 1 :]
        path.write_text(json.dumps({"series": entries}))
        assert outcome(run) is not Outcome.PASS, index["series"][number]["name"]
    path.write_bytes(whole)
    assert outcome(run) is Outcome.PASS
