"""Read-back calls an object present, missing or altered only when that was seen."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from harness.clock import SystemClock
from harness.evidence.journal import Journal
from harness.load import readback
from harness.load.ledger import MUST_BE_GONE, MUST_BE_PRESENT, Ledger, Stored, fold
from harness.load.readback import Pass, choose_for_pass, compare, pages, pass_rate, read_back

from .server import StandIn
from .wire.scripted import RESET, Scripted

BODY = b"some bytes"
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(readback, "RETRY_AFTER_S", 0.01)


@pytest.fixture
def run(tmp_path):
    """A run whose ledger has one object for each fate."""
    ledger = Ledger(Journal(tmp_path / "ledger" / "w0.jsonl", "ledger/w0", SystemClock()))
    for name, outcome in {
        "acked": "ok",
        "lost": "ok",
        "altered": "ok",
        "unsure-there": "unsure",
        "unsure-away": "unsure",
        "refused": "failed",
        "deleted": "ok",
        "deleted-in-vain": "ok",
        "undeleted": "ok",
    }.items():
        ledger.write(
            name,
            "upload",
            sha256=SHA,
            size_bytes=len(BODY),
            planned_t=1.0,
            outcome=outcome,
            ack_t=2.0,
            region="us-east-1",
        )
    ledger.delete("deleted", outcome="ok", ack_t=3.0, region="us-east-1")
    ledger.delete("undeleted", outcome="ok", ack_t=3.0, region="us-east-1")
    ledger.delete("deleted-in-vain", outcome="failed", ack_t=3.0, region="")
    ledger.close()
    history = Journal(tmp_path / "history.jsonl", "chaos/x", SystemClock())
    history.write("fault.made", fault="x", call_start_t=9.0, call_end_t=9.1)
    history.close()
    return tmp_path


@pytest.fixture
def server():
    with StandIn() as server:
        for name in ("acked", "unsure-there", "deleted-in-vain", "undeleted"):
            server.files[name] = (BODY, "application/octet-stream")
        server.files["altered"] = (b"Some bytes", "application/octet-stream")
        yield server


def ask(run, server, **kwargs):
    given = {"timeout_s": 1.0, "deadline_s": 5.0, "dns_server": None, **kwargs}
    return read_back(run, service_url=server.url, **given)


def results(run):
    lines = (run / "ledger" / "readback.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["object"]: (r["result"], r["detail"]) for r in records if r["kind"] == "readback"}


def test_lost_and_altered_and_undeleted_objects_are_found(run, server):
    summary = ask(run, server)
    assert summary["lost"] == ["lost"]
    assert summary["changed"] == ["altered"]
    assert summary["undeleted"] == ["undeleted"]
    assert (summary["objects"], summary["read"], summary["error"]) == (9, 9, 0)
    assert summary["expected"]["never-stored"] == {"missing": 1}
    assert summary["expected"]["may-be-present"] == {"missing": 1, "present": 1}
    assert results(run) == {
        "acked": ("present", ""),
        "lost": ("missing", "status-404"),
        "altered": ("altered", "checksum"),
        "refused": ("missing", "status-404"),
        "unsure-there": ("present", ""),
        "unsure-away": ("missing", "status-404"),
        "deleted": ("missing", "status-404"),
        "deleted-in-vain": ("present", ""),
        "undeleted": ("present", ""),
    }


@pytest.mark.parametrize(
    ("status", "kind", "body", "detail"),
    [
        (503, "text/plain", b"no healthy upstream", "status-503"),
        (200, "application/json", b'{"error": "x"}', "error-body"),
    ],
)
def test_an_error_is_never_present_nor_missing(run, server, status, kind, body, detail):
    server.faults.answer = (status, kind, body)
    summary = ask(run, server)
    assert summary["error"] == summary["read"] == 9
    assert summary["lost"] == summary["changed"] == []
    assert set(results(run).values()) == {("error", detail)}


def test_an_object_that_turns_up_on_a_later_attempt_is_present(run, server, monkeypatch):
    answers = iter([404, 404, 200])
    true_get = server._answer

    def answer(method, target, headers, body):
        if target.endswith("/acked") and next(answers) == 404:
            return 404, {}, b""
        return true_get(method, target, headers, body)

    monkeypatch.setattr(server, "_answer", answer)
    assert "acked" not in ask(run, server)["lost"]


def test_one_404_among_errors_is_no_loss(run, server, monkeypatch):
    statuses = iter([404, 503, 404, 404])
    true_get = server._answer

    def answer(method, target, headers, body):
        if target.endswith("/acked"):
            return next(statuses), {}, b""
        return true_get(method, target, headers, body)

    monkeypatch.setattr(server, "_answer", answer)
    assert "acked" not in ask(run, server)["lost"]
    assert results(run)["acked"] == ("error", "status-503")


def test_what_could_not_be_asked_in_time_is_an_error(run, server):
    server.faults.hang = True
    summary = ask(run, server, deadline_s=0.3, timeout_s=0.2)
    assert summary["error"] == 9
    assert summary["duration_s"] < 1.5


def test_a_limit_spreads_over_the_run_and_is_visible(run, server):
    summary = ask(run, server, limit=3)
    assert (summary["objects"], summary["read"]) == (9, 3)


def test_a_ledger_cut_short_by_a_kill_is_read_up_to_there(run, server):
    with (run / "ledger" / "w0.jsonl").open("a") as ledger:
        ledger.write('{"kind":"write","object":"cut')
    assert ask(run, server)["objects"] == 9


def test_an_upload_tried_again_counts_as_its_last_acknowledgement():
    line = {"kind": "write", "object": "a", "sha256": "x", "size_bytes": 1}
    states = fold([{**line, "outcome": "unsure"}, {**line, "outcome": "acked"}])
    assert [s.expected for s in states] == ["must-be-present"]


ENDLESS = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1_000_000, 0.005] * 1000]


@pytest.mark.parametrize("says", [ENDLESS, [9.0], [b"no"], [b"HTTP/1.1 200 OK\r\n\r\n{", RESET]])
def test_a_hostile_service_is_an_error_in_time_and_never_a_loss(run, says):
    with Scripted([says]) as server:
        begun_m = time.monotonic()
        summary = ask(run, server, timeout_s=0.3, deadline_s=1.0)
    assert time.monotonic() - begun_m < 8.0
    assert summary["error"] == summary["read"] > 0
    assert summary["lost"] == summary["changed"] == []


# ---- the service's own list ----------------------------------------------------------------


def own(*names, expected=MUST_BE_PRESENT):
    return readback._Own([Stored(name, f"sum-{name}", 1, expected) for name in names])


def test_a_page_that_holds_what_was_stored_is_right():
    entries = [("x-00001", "sum-x-00001"), ("x-00002", "sum-x-00002")]
    page = compare("x-000", entries, "", own("x-00001", "x-00002"))
    assert page == {
        "listed": 2, "twice": 0, "copies": 0, "undeleted": 0, "absent": 0, "names": {}
    }  # fmt: skip


def test_an_object_listed_twice_or_under_a_second_id_is_seen():
    entries = [("x-00001", "sum-x-00001"), ("x-00001", "sum-x-00001"), ("copy", "sum-x-00002")]
    page = compare("x-000", entries, "", own("x-00001", "x-00002"))
    assert (page["twice"], page["copies"], page["absent"]) == (1, 1, 1)
    assert page["names"] == {
        "twice": ["x-00001"],
        "copies": ["copy of x-00002"],
        "absent": ["x-00002"],
    }


def test_a_deleted_object_that_is_listed_is_seen():
    page = compare("x-000", [("x-00001", "")], "", own("x-00001", expected=MUST_BE_GONE))
    assert (page["undeleted"], page["copies"]) == (1, 0)


def test_a_page_that_could_not_be_had_says_so_and_nothing_is_absent():
    assert compare("x-000", [], "status-503", own("x-00001"))["absent"] == 0


def test_pages_are_as_many_as_stated_whatever_was_stored():
    found = [Stored(f"run-w0-f-{n:06d}", "", 1, MUST_BE_PRESENT) for n in range(100_000)]
    assert len(pages(found)) == readback.LISTED_PAGES
    assert pages(found[:150]) == ["run-w0-f-0000", "run-w0-f-0001"]
    assert pages([Stored("no-number", "", 1, MUST_BE_PRESENT)]) == []


def listings(run):
    lines = (run / "ledger" / "readback.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "listing"]


def numbered(run, *names):
    ledger = Ledger(Journal(run / "ledger" / "w1.jsonl", "ledger/w1", SystemClock()))
    given = {"sha256": SHA, "size_bytes": len(BODY), "planned_t": 1.0, "ack_t": 2.0}
    for name in names:
        ledger.write(name, "upload", outcome="ok", region="us-east-1", **given)
    ledger.close()


def test_the_list_is_looked_through_after_the_run(run, server):
    numbered(run, "x-00001", "x-00002")
    server.files["x-00001"] = (BODY, "application/octet-stream")
    ask(run, server)
    [page] = listings(run)
    assert (page["prefix"], page["listed"], page["absent"]) == ("x-000", 1, 1)
    assert page["error"] == ""


def test_a_list_that_cannot_be_had_is_an_error(run, server):
    numbered(run, "x-00001")
    server.faults.answer = (200, "application/json", b"[]")
    ask(run, server)
    assert [page["error"] for page in listings(run)] == ["not-a-list"]


# ---- while traffic goes on -----------------------------------------------------------------


def test_the_last_acknowledged_before_the_fault_are_asked_for_first():
    found = [Stored(f"o-{n}", "", 1, MUST_BE_PRESENT, ack_t=float(n)) for n in range(100)]
    chosen = choose_for_pass(found, before_t=49.5, at_most=20)
    assert len(chosen) == len({item.object_id for item in chosen}) == 20
    assert [item.object_id for item in chosen[::2]][:4] == ["o-49", "o-48", "o-47", "o-46"]
    always = {item.object_id for item in choose_for_pass(found, None, at_most=10)}
    assert always <= {item.object_id for item in chosen}


def test_nothing_deleted_is_asked_for_during_the_run():
    found = [Stored("gone", "", 1, MUST_BE_GONE), Stored("kept", "", 1, MUST_BE_PRESENT)]
    assert [item.object_id for item in choose_for_pass(found, 9.0)] == ["kept"]


def test_read_back_takes_a_small_part_of_the_measured_rate():
    assert [pass_rate(r) for r in (1.0, 200.0, 10_000.0)] == [1.0, 10.0, 50.0]


@pytest.fixture
def at_once(monkeypatch):
    """A pass begins with its phase."""
    monkeypatch.setattr(readback, "PASS_FROM", 0.0)


def passing(run, server, **kwargs):
    given = {"duration_s": 10.0, "planned_rate": 2000.0, "dns_server": None, "timeout_s": 9.0}
    return Pass(
        run, "fault:x", "x", service_url=server.url, clock=SystemClock(), **{**given, **kwargs}
    )


def wait_for(run, kind):
    """Until there is such a line, a few seconds at most."""
    path = run / "ledger" / "readback.jsonl"
    for _ in range(300):
        if path.exists() and f'"kind":"{kind}"' in path.read_text():
            return
        time.sleep(0.02)


def test_a_pass_asks_for_what_must_be_there_and_closes_its_source(run, server, at_once):
    with passing(run, server):
        wait_for(run, "pass.end")
    lines = (run / "ledger" / "readback.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert {r["source"] for r in records} == {"readback/fault:x"}
    assert [records[0]["kind"], *(r["kind"] for r in records[-2:])] == [
        "pass.start", "pass.end", "source.end"
    ]  # fmt: skip
    found = {r["object"]: r["result"] for r in records if r["kind"] == "readback"}
    assert found == {
        "acked": "present",
        "deleted-in-vain": "present",
        "lost": "missing",
        "altered": "altered",
    }
    assert records[-2]["asked"] == 4
    assert all(r["phase"] == "fault:x" for r in records if r["kind"] == "readback")
    answers = {r["object"]: r["answers"] for r in records if r["kind"] == "readback"}
    assert (answers["acked"], answers["lost"]) == (1, readback.ATTEMPTS)


def test_nothing_is_asked_in_the_first_half_of_a_phase(run, server):
    with passing(run, server, duration_s=600.0):
        time.sleep(0.1)
    assert not (run / "ledger" / "readback.jsonl").exists()


def test_what_was_being_asked_for_when_the_phase_ended_is_not_known(run, server, at_once):
    server.faults.hang = True
    begun_m = time.monotonic()
    with passing(run, server):
        wait_for(run, "pass.start")
    assert time.monotonic() - begun_m < 8.0
    assert results(run) == {}
    lines = [json.loads(x) for x in (run / "ledger" / "readback.jsonl").read_text().splitlines()]
    assert [line.get("asked") for line in lines if line["kind"] == "pass.end"] == [0]


def test_a_service_that_does_not_answer_is_given_up_before_the_phase_ends(run, server, at_once):
    server.faults.hang = True
    with passing(run, server, duration_s=0.4):
        wait_for(run, "pass.end")
    assert {result for result, _ in results(run).values()} <= {"error"}


def test_no_more_is_sent_at_a_time_than_is_stated(run, server, at_once, monkeypatch):
    monkeypatch.setattr(readback, "PASS_RATE_MAX", 5.0)
    with passing(run, server, duration_s=0.7):
        wait_for(run, "pass.end")
    # For 0.63 s at 5/s there is room for three.
    assert len(results(run)) <= 3
