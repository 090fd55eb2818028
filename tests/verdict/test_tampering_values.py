"""A passing run with values of its evidence changed is never a pass, even where nothing is
missing, every line is numbered anew and every sum that could be made to agree agrees.

Of all that can be changed so, a sample drawn with a seed is tried, as many of each kind;
``make tampering`` tries everything (HARNESS_TAMPER_ALL).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.evidence.lines import read_lines
from harness.evidence.model import Event, Evidence
from harness.evidence.run import evidence_from, read_run
from harness.evidence.seal import SEAL, broken, sealed
from harness.plan.model import Plan
from harness.verdict import Outcome, judge
from tests.verdict.test_tampering import passing

#: Of each kind of change, tried at each run.
SAMPLE = 2
#: Ledger lines that are lost at a time.
PAGE = 40

Change = Callable[[Evidence], Evidence]
RUNS = passing()


@functools.cache
def plan_of(run: Path) -> Plan:
    return Plan.from_json(json.loads((run / "plan.json").read_bytes()))


@functools.cache
def evidence_of(run: Path) -> Evidence:
    return read_run(run)


def some(changes: list[Any], why: str) -> list[Any]:
    """A sample of them, always the same."""
    if os.environ.get("HARNESS_TAMPER_ALL") or len(changes) <= SAMPLE:
        return changes
    return random.Random(why).sample(changes, SAMPLE)


def changed(items: tuple[Any, ...], index: int, **fields: Any) -> tuple[Any, ...]:
    return (*items[:index], dataclasses.replace(items[index], **fields), *items[index + 1 :])


# ---- the history -----------------------------------------------------------------------------

#: kind of line → field → values that take away what the line proves
FIELDS: dict[str, dict[str, list[Any]]] = {
    "run.start": {"observers": [["nobody"]]},
    "run.end": {"stopped": ["SIGTERM"]},
    "phase.start": {"phase": ["another", None]},
    "phase.end": {"phase": ["another", None]},
    "experiment.start": {"fault": ["another", None]},
    "experiment.end": {"fault": ["another", None], "outcome": ["failed", "interrupted", None]},
    "fault.start": {"fault": ["another", None]},
    "fault.made": {"fault": ["another", None]},
    "fault.readback": {"holds": [False, None, "true", 1], "fault": ["another"]},
    "undo.start": {"undo": ["another"]},
    "undo.done": {"undo": ["another"]},
    "undo.readback": {"restored": [False, None, "true", 1], "undo": ["another"]},
    "load.start": {"workers": [2, ["w0", "w1"]]},
    "load.end": {"workers_ended": [0, []]},
    "watch.start": {"subjects": [["nothing:at-all"]]},
}


def fields() -> list[tuple[str, str, Any]]:
    return [(k, f, v) for k, changes in FIELDS.items() for f, vs in changes.items() for v in vs]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_line_of_the_history_may_say_something_else(run: Path) -> None:
    evidence = evidence_of(run)
    for kind in FIELDS:
        every = [
            (index, field, value)
            for _, field, value in (f for f in fields() if f[0] == kind)
            for index, event in enumerate(evidence.events)
            if event.kind == kind
        ]
        assert every, kind
        for index, field, value in some(every, kind):
            event = evidence.events[index]
            other = dataclasses.replace(event, data={**event.data, field: value})
            rest = list(evidence.events)
            rest[index] = other
            found = judged(run, from_events(evidence, rest))
            assert found is not Outcome.PASS, (kind, event.line, field, value)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_fault_is_known_to_have_landed_by_what_made_it(run: Path) -> None:
    """The sightings of what a fault broke are told of by nobody, one fault at a time."""
    evidence = evidence_of(run)
    for fault in plan_of(run).faults:
        span = evidence.phase(f"fault:{fault.name}")
        assert span is not None
        assert span.end_t is not None
        start_t, end_t = span.start_t, span.end_t
        rest = [
            event
            for event in evidence.events
            if event.kind != "sighting" or not start_t <= event.t <= end_t
        ]
        assert judged(run, from_events(evidence, rest)) is not Outcome.PASS, fault.name


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_observer_that_a_finding_rests_on_may_have_seen_nothing(run: Path) -> None:
    evidence, names = evidence_of(run), plan_of(run).target
    subjects = [f"health_check:{names.primary}", "dns:api.fileservice.lab"]
    # Of the databases those that were written to at some time.
    subjects += sorted(
        {
            s.subject
            for s in evidence.sightings
            if s.subject.startswith("db:") and s.value.get("role") == "primary"
        }
    )
    for subject in subjects:
        for value in ("unknown", None, {}, []):
            rest = [
                dataclasses.replace(event, data={**event.data, "value": value})
                if event.text("subject") == subject
                else event
                for event in evidence.events
            ]
            found = judged(run, from_events(evidence, rest))
            assert found is not Outcome.PASS, (subject, value)


# ---- traffic ---------------------------------------------------------------------------------


def tally_changes(evidence: Evidence) -> Iterator[tuple[str, Change]]:
    for number, tally in enumerate(evidence.tallies):

        def with_(number: int = number, **fields: Any) -> Change:
            return lambda e: dataclasses.replace(e, tallies=changed(e.tallies, number, **fields))

        yield (
            "worker",
            lambda e, n=number: dataclasses.replace(e, tallies=e.tallies[:n] + e.tallies[n + 1 :]),
        )
        for key in ("planned", "in_flight"):
            said = {**(tally.end or {}), key: 1 + int((tally.end or {})[key])}
            yield f"end {key}", with_(end=said)
        yield "lateness", with_(lateness=())
        for index, second in enumerate(tally.seconds):
            yield "second", with_(seconds=tally.seconds[:index] + tally.seconds[index + 1 :])
            yield (
                "planned",
                with_(seconds=changed(tally.seconds, index, planned=second.planned + 1)),
            )
            for at, cell in enumerate(second.cells):
                cells = second.cells[:at] + second.cells[at + 1 :]
                yield "cell", with_(seconds=changed(tally.seconds, index, cells=cells))
                more = changed(second.cells, at, n=cell.n + 1)
                yield "n", with_(seconds=changed(tally.seconds, index, cells=more))


def without(what: str, start: int) -> Change:
    """A page of the ledger or of the read-back is lost."""

    def change(evidence: Evidence) -> Evidence:
        items = getattr(evidence, what)
        return dataclasses.replace(evidence, **{what: items[:start] + items[start + PAGE :]})

    return change


def other(what: str, index: int, **fields: Any) -> Change:
    """One line of them says something else."""
    return lambda e: dataclasses.replace(e, **{what: changed(getattr(e, what), index, **fields)})


def ledger_changes(evidence: Evidence) -> Iterator[tuple[str, Change]]:
    ledger, found = evidence.ledger, evidence.readbacks
    gone = {e.object for e in ledger if e.kind == "delete" and e.outcome != "failed"}
    kept = {e.object for e in ledger if e.outcome == "acked"} - gone
    for start in range(0, len(ledger), PAGE):
        if any(e.object in kept for e in ledger[start : start + PAGE]):
            yield "ledger page", without("ledger", start)
    counted = min(tally.start["start_t"] for tally in evidence.tallies)
    for index, entry in enumerate(ledger):
        if entry.kind != "write" or entry.outcome != "acked":
            continue
        if entry.planned_t >= counted:
            for outcome in ("failed", "unsure", "", "ok"):
                yield "ledger outcome", other("ledger", index, outcome=outcome)
        if entry.object in kept:
            yield "ledger object", other("ledger", index, object="another")
    for start in range(0, len(found), PAGE):
        if any(r.object in kept for r in found[start : start + PAGE]):
            yield "read-back page", without("readbacks", start)
    for index, readback in enumerate(found):
        if readback.object in kept:
            for result in ("missing", "altered", "error", "", "perhaps"):
                yield "read-back", other("readbacks", index, result=result)
            yield "read-back phase", other("readbacks", index, phase="recovery:region")


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("changes", [tally_changes, ledger_changes])
def test_no_count_and_no_fate_of_an_object_may_be_another(
    run: Path, changes: Callable[[Evidence], Iterator[tuple[str, Change]]]
) -> None:
    evidence = evidence_of(run)
    by_kind: dict[str, list[Change]] = {}
    for kind, change in changes(evidence):
        by_kind.setdefault(kind, []).append(change)
    for kind, found in by_kind.items():
        for number, change in enumerate(some(found, kind)):
            assert judged(run, change(evidence)) is not Outcome.PASS, (kind, number)


# ---- Prometheus ------------------------------------------------------------------------------


def series_changes(evidence: Evidence, name: str) -> Iterator[tuple[str, Evidence]]:
    def with_(**fields: Any) -> Evidence:
        series = dataclasses.replace(evidence.series[name], **fields)
        return dataclasses.replace(evidence, series={**evidence.series, name: series})

    def points(change: Callable[[float, str], str | None]) -> Evidence:
        lines = [
            dataclasses.replace(
                line,
                points=tuple((t, new) for t, v in line.points if (new := change(t, v)) is not None),
            )
            for line in evidence.series[name].result
        ]
        return with_(result=tuple(lines))

    rest = {key: series for key, series in evidence.series.items() if key != name}
    yield "gone", dataclasses.replace(evidence, series=rest)
    yield "empty", with_(result=())
    yield "half the pods", with_(result=evidence.series[name].result[::2])
    yield "error", with_(status="error")
    yield "said to be wrong", with_(error="it was wrong")
    yield "partial", with_(warnings=("partial response",))
    middle = evidence.series[name].start / 2 + evidence.series[name].end / 2
    yield "cut", points(lambda t, v: v if t < middle else None)
    yield "not a number", points(lambda t, v: "NaN")
    yield "infinite", points(lambda t, v: "+Inf")
    yield "text", points(lambda t, v: "x")
    yield "negative", points(lambda t, v: f"-{v}")
    yield "frozen", points(lambda t, v: "1")
    yield "doubled", points(lambda t, v: str(2 * float(v)))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_series_that_clients_are_compared_with_may_say_something_else(run: Path) -> None:
    evidence = evidence_of(run)
    assert any(o.kind == "agreement" for o in plan_of(run).objectives)
    for what, other in series_changes(evidence, "gateway_requests"):
        assert judged(run, other) is not Outcome.PASS, what


# ---- bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_no_byte_of_a_sealed_run_may_be_another(run: Path, tmp_path: Path) -> None:
    copy, chance = tmp_path / "run", random.Random(run.name)
    shutil.copytree(run, copy)
    (copy / "expected.json").unlink()
    (copy / SEAL).unlink(missing_ok=True)
    (copy / SEAL).write_bytes(sealed(copy))
    assert judge(plan_of(run), read_run(copy)).outcome is Outcome.PASS
    for name in json.loads((copy / SEAL).read_bytes())["files"]:
        whole = (copy / name).read_bytes()
        at = chance.randrange(len(whole))
        other = whole[:at] + bytes([whole[at] ^ (1 << chance.randrange(8))]) + whole[at + 1 :]
        (copy / name).write_bytes(other)
        assert [gap.source for gap in broken(copy)] == [name]
        (copy / name).write_bytes(whole)
    # A gap is never a pass: once, with the whole judge.
    digit = whole.rindex(b"1")
    (copy / name).write_bytes(whole[:digit] + b"2" + whole[digit + 1 :])
    assert judge(plan_of(run), read_run(copy)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("pattern", ["history.jsonl", "tallies/*.jsonl", "ledger/*.jsonl"])
def test_no_line_may_be_garbled_doubled_or_cut(run: Path, pattern: str, tmp_path: Path) -> None:
    for path in run.glob(pattern):
        lines = path.read_bytes().splitlines(keepends=True)
        # What is found in a line and in its neighbours does not hang on how many there are.
        lines = lines[: 2 * PAGE]
        at = random.Random(path.name).randrange(len(lines))
        line = lines[at]
        garbled = line.replace(b":", b"?", 1)
        for what, other in {
            "garbled": [garbled],
            "no frame": [line.replace(b'"seq"', b'"sew"', 1)],
            "doubled": [line, line],
            "cut": [line[: len(line) // 2] + b"\n"],
            "two in one": [line.rstrip(b"\n") + lines[at - 1]],
        }.items():
            assert {g.what for g in gaps_of(tmp_path, lines, at, other)} > {"end"}, what


def gaps_of(folder: Path, lines: list[bytes], at: int, other: list[bytes]) -> list[Any]:
    path = folder / "lines.jsonl"
    path.write_bytes(b"".join([*lines[:at], *other, *lines[at + 1 :]]))
    return read_lines(path, path.name)[1]


def judged(run: Path, evidence: Evidence) -> Outcome:
    return judge(plan_of(run), evidence).outcome


def from_events(evidence: Evidence, events: list[Event]) -> Evidence:
    """The same run with another history."""
    return evidence_from(
        run=evidence.run,
        events=events,
        tallies=list(evidence.tallies),
        ledger=evidence.ledger,
        readbacks=evidence.readbacks,
        passes=evidence.passes,
        listings=evidence.listings,
        followed=evidence.followed,
        series=evidence.series,
        gaps=[],
    )


def test_a_run_that_is_read_and_put_together_again_passes() -> None:
    for run in RUNS:
        evidence = evidence_of(run)
        assert judged(run, from_events(evidence, list(evidence.events))) is Outcome.PASS
