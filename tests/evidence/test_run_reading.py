"""A run folder is read the way it is found; what is missing is one gap, never an exception."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clock import ManualClock
from harness.errors import EvidenceError
from harness.evidence.following import is_followed
from harness.evidence.journal import Journal
from harness.evidence.model import Gap
from harness.evidence.run import read_run, write_atomic

HISTORY = "history.jsonl"
TALLY = "tallies/w0.jsonl"
LEDGER = "ledger/w0.jsonl"
READBACK = "ledger/readback.jsonl"


def series_of(name: str) -> bytes:
    line = {"labels": {"op": "download"}, "points": [[1.0, "3"], [2.0, "NaN"]]}
    document = {"name": name, "query": "q", "step_s": 1, "start": 0, "end": 9, "status": "success"}
    return json.dumps({**document, "result": [line]}).encode()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small whole run, written with the pens a real one is written with."""
    clock = ManualClock()

    def journal(name: str, source: str, *lines: tuple[str, dict[str, Any]]) -> None:
        pen = Journal(tmp_path / name, source, clock)
        for kind, data in lines:
            clock.advance(1)
            pen.write(kind, **data)
        pen.close()

    (tmp_path / "plan.json").write_text("{}")
    fault = {"fault": "pod", "undo": "u1"}
    journal(
        HISTORY,
        "conductor",
        ("run.start", {"run": "the-run"}),
        ("phase.start", {"phase": "fault:pod", "fault": "pod"}),
        ("phase.end", {"phase": "fault:pod", "fault": "pod"}),
        ("run.end", {"stopped": None}),
    )
    journal(
        HISTORY,
        "chaos/pod",
        ("fault.start", {**fault, "action": "kill", "targets": ["a"]}),
        ("fault.made", {"fault": "pod", "call_start_t": 5.0, "call_end_t": 6.0}),
        ("fault.readback", {"fault": "pod", "holds": True, "observed": []}),
        ("undo.start", fault),
        ("undo.done", fault),
        ("undo.readback", {**fault, "restored": True, "observed": 2}),
    )
    journal(
        HISTORY,
        "watch/dns",
        ("watch.start", {"observer": "dns"}),
        ("sighting", {"subject": "dns:x", "value": ["a"], "uncertainty_s": 0.25}),
        ("watch.beat", {"polls": 4}),
    )
    cell = {"op": "download", "region": "r", "zone": "z", "outcome": "ok", "n": 2, "bytes": 9}
    second = {"planned": 2, "cells": [{**cell, "latency": {"1467": 2}, "below": {"0.2": 2}}]}
    journal(
        TALLY,
        "tally/w0",
        ("tally.start", {"worker": "w0", "rate": 2}),
        ("tally", {"seconds": {"1700000000": second}, "lateness": {"900": 2}}),
        ("tally.end", {"planned": 2, "in_flight": 0}),
    )
    journal(
        LEDGER,
        "ledger/w0",
        ("write", {"object": "o1", "op": "upload", "outcome": "acked", "ack_t": 7.5}),
        ("delete", {"object": "o1", "outcome": "unsure"}),
    )
    journal(READBACK, "readback", ("readback", {"object": "o1", "result": "present"}))
    content = series_of("requests")
    write_atomic(tmp_path / "series" / "requests.json", content)
    entry = {
        "name": "requests",
        "file": "requests.json",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomic(tmp_path / "series" / "index.json", json.dumps({"series": [entry]}).encode())
    return tmp_path


def gap(run: Path) -> Gap:
    """The one gap of the run."""
    gaps = read_run(run).gaps
    assert len(gaps) == 1, gaps
    return gaps[0]


def edit(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def number_of(records: list[dict[str, Any]], source: str, kind: str) -> int:
    return next(i for i, r in enumerate(records) if (r["source"], r["kind"]) == (source, kind))


def test_a_whole_run_is_read_without_a_gap(run: Path) -> None:
    evidence = read_run(run)
    assert evidence.gaps == ()
    assert evidence.run == "the-run"
    assert [(p.name, p.kind, p.fault) for p in evidence.phases] == [("fault:pod", "fault", "pod")]
    (fault,) = evidence.faults
    assert (fault.call_start_t, fault.call_end_t, fault.holds) == (5.0, 6.0, True)
    assert (fault.undo, fault.restored, fault.restored_observed) == ("u1", True, 2)
    (sighting,) = evidence.seen("dns:x")
    assert (sighting.value, sighting.uncertainty_s) == (["a"], 0.25)
    (tally,) = evidence.tallies
    assert tally.seconds[0].cells[0].latency == {1467: 2}
    assert tally.lateness[0].late == {900: 2}
    assert [(e.kind, e.outcome, e.ack_t) for e in evidence.ledger] == [
        ("write", "acked", 7.5),
        ("delete", "unsure", None),
    ]
    assert evidence.readbacks[0].result == "present"
    assert evidence.series["requests"].result[0].points == ((1.0, "3"), (2.0, "NaN"))
    kinds = [event.kind for event in evidence.events]
    assert "source.end" not in kinds


@pytest.mark.parametrize(
    ("name", "source"),
    [(HISTORY, "watch/dns"), (TALLY, "tally/w0"), (LEDGER, "ledger/w0"), (READBACK, "readback")],
)
def test_a_source_that_never_closed_is_a_gap(run: Path, name: str, source: str) -> None:
    edit(run / name, lambda rs: rs.pop(number_of(rs, source, "source.end")))
    assert (gap(run).source, gap(run).what) == (source, "end")


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        (HISTORY, "watch/dns", "watch.start"),
        (HISTORY, "watch/dns", "watch.beat"),
        (TALLY, "tally/w0", "tally"),
        (LEDGER, "ledger/w0", "write"),
        (READBACK, "readback", "readback"),
    ],
)
def test_a_line_taken_out_is_a_gap_of_its_source(
    run: Path, name: str, source: str, kind: str
) -> None:
    edit(run / name, lambda rs: rs.pop(number_of(rs, source, kind)))
    assert (gap(run).source, gap(run).what) == (source, "sequence")
    assert "missing" in gap(run).detail


def test_a_line_written_twice_is_a_gap(run: Path) -> None:
    edit(run / LEDGER, lambda rs: rs.insert(0, rs[0]))
    assert (gap(run).source, gap(run).what) == ("ledger/w0", "sequence")
    assert "more than once" in gap(run).detail


@pytest.mark.parametrize("count", [1, 99, None, "4", 4.5])
def test_a_closing_line_with_a_wrong_count_is_a_gap(run: Path, count: object) -> None:
    edit(run / LEDGER, lambda rs: rs[-1].update(count=count))
    assert (gap(run).source, gap(run).what) == ("ledger/w0", "end")


def test_lines_after_the_closing_line_are_a_gap(run: Path) -> None:
    edit(run / LEDGER, lambda rs: rs.append({**rs[0], "seq": 3}))
    assert (gap(run).source, gap(run).what) == ("ledger/w0", "end")


def test_a_last_line_cut_off_is_one_gap_of_the_file(run: Path) -> None:
    path = run / LEDGER
    path.write_bytes(path.read_bytes() + b'{"source":"ledger/w0","se')
    assert (gap(run).source, gap(run).what) == (LEDGER, "line")
    assert "cut off" in gap(run).detail


GARBAGE = {
    "text": b"not json",
    "no object": b"[1,2]",
    "no frame": b'{"kind":"write"}',
    "seq as text": b'{"source":"x","seq":"0","t":1,"m":1,"kind":"k"}',
    "seq as bool": b'{"source":"x","seq":true,"t":1,"m":1,"kind":"k"}',
    "time as text": b'{"source":"x","seq":0,"t":"1","m":1,"kind":"k"}',
    "time not finite": b'{"source":"x","seq":0,"t":NaN,"m":1,"kind":"k"}',
    "huge time": b'{"source":"x","seq":0,"t":' + b"9" * 400 + b',"m":1,"kind":"k"}',
    "huge number": b'{"source":"x","seq":0,"t":1,"m":1,"kind":"k","n":' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "bytes": b"\xff\xfe\x00",
    "zeros": b"\x00" * 64,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_garbage_line_is_one_gap_with_its_number(run: Path, name: str) -> None:
    path = run / LEDGER
    path.write_bytes(GARBAGE[name] + b"\n" + path.read_bytes())
    assert gap(run).source == LEDGER
    assert "line 1 is not a journal line" in gap(run).detail


def test_a_number_far_out_of_order_is_told_without_counting_to_it(run: Path) -> None:
    edit(run / LEDGER, lambda rs: rs[0].update(seq=10**15))
    assert {g.source for g in read_run(run).gaps} == {"ledger/w0"}


@pytest.mark.parametrize(
    ("name", "source"),
    [(READBACK, "ledger/readback"), ("series/index.json", "series"),
     ("series/requests.json", "series/requests")],
)  # fmt: skip
def test_a_missing_file_is_one_gap(run: Path, name: str, source: str) -> None:
    (run / name).unlink()
    if name == "series/index.json":
        (run / "series" / "requests.json").unlink()
    assert gap(run).source == source


def test_a_folder_without_tallies_has_none_and_the_judge_sees_it(run: Path) -> None:
    (run / TALLY).unlink()
    assert read_run(run).tallies == ()


@pytest.mark.parametrize("name", ["plan.json", HISTORY])
def test_a_folder_that_is_no_run_is_an_error_that_says_so(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(EvidenceError, match=f"there is no {name}"):
        read_run(run)


def test_an_empty_history_is_no_error(run: Path) -> None:
    (run / HISTORY).write_bytes(b"")
    evidence = read_run(run)
    assert evidence.events == ()
    assert evidence.run == run.name


BAD_TALLIES: dict[str, dict[str, Any]] = {
    "no seconds": {"seconds": None},
    "second not a number": {"seconds": {"now": {"planned": 1}}},
    "second a superscript": {"seconds": {"²": {"planned": 1}}},
    "negative count": {"seconds": {"1": {"planned": -1}}},
    "unknown outcome": {"seconds": {"1": {"planned": 1, "cells": [{"outcome": "fine", "n": 1}]}}},
    "outcome a list": {"seconds": {"1": {"planned": 1, "cells": [{"outcome": [], "n": 1}]}}},
    "count as text": {"seconds": {"1": {"planned": 1, "cells": [{"outcome": "ok", "n": "1"}]}}},
    "histogram of lists": {
        "seconds": {"1": {"cells": [{"outcome": "ok", "n": 1, "latency": {"1": []}}]}}
    },
    "bucket not a number": {
        "seconds": {"1": {"cells": [{"outcome": "ok", "n": 1, "latency": {"a": 1}}]}}
    },
    "negative bucket": {
        "seconds": {"1": {"cells": [{"outcome": "ok", "n": 1, "latency": {"-5": 1}}]}}
    },
    "lateness a list": {"lateness": [1]},
}


@pytest.mark.parametrize("name", BAD_TALLIES)
def test_a_tally_that_cannot_be_used_is_one_gap_of_its_worker(run: Path, name: str) -> None:
    edit(run / TALLY, lambda rs: rs[1].update(BAD_TALLIES[name]))
    assert gap(run).source == "tally/w0"
    assert TALLY in gap(run).detail


def test_a_write_without_object_is_a_gap(run: Path) -> None:
    edit(run / LEDGER, lambda rs: rs[0].update(object=""))
    assert gap(run).source == "ledger/w0"


def test_a_readback_without_object_is_a_gap(run: Path) -> None:
    edit(run / READBACK, lambda rs: rs[0].pop("object"))
    assert gap(run).source == "readback"


def test_a_sighting_of_nothing_is_a_gap(run: Path) -> None:
    edit(run / HISTORY, lambda rs: rs[number_of(rs, "watch/dns", "sighting")].pop("value"))
    assert gap(run).source == "watch/dns"


def test_a_phase_that_never_ended_is_a_gap_of_that_phase(run: Path) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[number_of(records, "conductor", "phase.end")]["kind"] = "other"

    edit(run / HISTORY, change)
    assert (gap(run).source, gap(run).phase) == ("conductor", "fault:pod")


# ---- series --------------------------------------------------------------------------------------


def test_a_series_that_was_edited_is_a_gap_and_not_a_smaller_answer(run: Path) -> None:
    path = run / "series" / "requests.json"
    path.write_bytes(path.read_bytes().replace(b'"3"', b'"4"'))
    assert gap(run).source == "series/requests"
    assert "SHA-256" in gap(run).detail
    assert read_run(run).series == {}


def test_a_series_that_is_not_in_the_index_is_a_gap(run: Path) -> None:
    write_atomic(run / "series" / "more.json", series_of("more"))
    assert gap(run).detail == "more.json is not in the index"


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b'{"series": 1}', b'{"series": [1]}', b"[" * 100_000]
)
def test_an_index_that_is_none_is_a_gap(run: Path, content: bytes) -> None:
    (run / "series" / "requests.json").unlink()
    (run / "series" / "index.json").write_bytes(content)
    assert gap(run).source == "series"


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"not json", b'{"result": [1]}', b'{"result": 5}', b"\xff"]
)
def test_a_series_with_the_right_sum_and_the_wrong_form_is_a_gap(run: Path, content: bytes) -> None:
    (run / "series" / "requests.json").write_bytes(content)
    entry = {
        "name": "requests",
        "file": "requests.json",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (run / "series" / "index.json").write_text(json.dumps({"series": [entry]}))
    assert gap(run).source == "series/requests"


# ---- write_atomic ------------------------------------------------------------------------------


def test_a_file_written_atomically_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdict.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["verdict.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "verdict.json"
    write_atomic(path, b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(path, b"two")
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["verdict.json"]


# ---- objects followed and read back ----------------------------------------------------------

PASS = {"phase": "fault:pod"}
ASKED = {"object": "o1", "result": "missing", "region": "r", **PASS, "answers": 2}
PAGE = {
    "prefix": "o",
    "error": "",
    "listed": 3,
    "twice": 1,
    "copies": 0,
    "undeleted": 0,
    "absent": 2,
    "names": {"twice": ["o1"]},
}


def append(run: Path, name: str, source: str, *lines: tuple[str, dict[str, Any]]) -> None:
    pen = Journal(run / name, source, ManualClock(100.0))
    for kind, data in lines:
        pen.write(kind, **data)
    pen.close()


def test_what_was_read_back_during_the_run_and_listed_after_it_is_read(run: Path) -> None:
    asked = [
        ("pass.start", {**PASS, "chosen": 5}),
        ("readback", ASKED),
        ("pass.end", {**PASS, "asked": 1}),
    ]
    append(run, READBACK, "readback/fault:pod", *asked)
    append(run, READBACK, "listing", ("listing", PAGE))
    evidence = read_run(run)
    assert evidence.gaps == ()
    [during] = [r for r in evidence.readbacks if r.phase]
    assert (during.phase, during.result, during.answers) == ("fault:pod", "missing", 2)
    [one] = evidence.passes
    assert (one.phase, one.chosen, one.asked) == ("fault:pod", 5, 1)
    [page] = evidence.listings
    assert (page.listed, page.twice, page.absent, page.names) == (3, 1, 2, {"twice": ("o1",)})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("readback", {**ASKED, "object": ""}),
        ("readback", {**ASKED, "answers": -1}),
        ("pass.start", {**PASS, "chosen": "many"}),
        ("pass.end", {**PASS}),
        ("listing", {**PAGE, "twice": None}),
        ("listing", {**PAGE, "names": ["o1"]}),
        ("listing", {**PAGE, "names": {"twice": "o1"}}),
    ],
)
def test_a_read_back_line_that_says_nothing_is_a_gap(
    run: Path, kind: str, data: dict[str, Any]
) -> None:
    append(run, READBACK, "another", (kind, data))
    assert gap(run).what == "line"


def test_of_a_ledger_that_halved_its_share_the_objects_still_followed_are_read(run: Path) -> None:
    written = [("write", {"object": f"x-{n}", "outcome": "acked"}) for n in range(64)]
    half = ("share", {"share": 0.5})
    append(run, "ledger/w1.jsonl", "ledger/w1", *written, half, ("share", {"share": 0.25}))
    evidence = read_run(run)
    assert evidence.gaps == ()
    assert evidence.followed == 0.25
    followed = {e.object for e in evidence.ledger if e.object.startswith("x-")}
    assert followed == {f"x-{n}" for n in range(64) if is_followed(f"x-{n}", 0.25)}
    assert {e.object for e in evidence.ledger} - followed <= {"o1"}


@pytest.mark.parametrize("share", [0, -1, 2, None, "half", True])
def test_a_share_that_is_none_is_a_gap(run: Path, share: object) -> None:
    append(run, "ledger/w1.jsonl", "ledger/w1", ("share", {"share": share}))
    assert gap(run).what == "line"
