"""Read-back calls an object present, missing or altered only when that was seen."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from harness.clock import SystemClock
from harness.evidence.journal import Journal
from harness.load import readback
from harness.load.ledger import Ledger, fold
from harness.load.readback import read_back

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
    assert (summary["objects"], summary["read"], summary["error"]) == (8, 8, 0)
    assert summary["expected"]["may-be-present"] == {"missing": 1, "present": 1}
    assert results(run) == {
        "acked": ("present", ""),
        "lost": ("missing", "status-404"),
        "altered": ("altered", "checksum"),
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
    assert summary["error"] == summary["read"] == 8
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
    assert summary["error"] == 8
    assert summary["duration_s"] < 1.5


def test_a_limit_spreads_over_the_run_and_is_visible(run, server):
    summary = ask(run, server, limit=3)
    assert (summary["objects"], summary["read"]) == (8, 3)


def test_a_ledger_cut_short_by_a_kill_is_read_up_to_there(run, server):
    with (run / "ledger" / "w0.jsonl").open("a") as ledger:
        ledger.write('{"kind":"write","object":"cut')
    assert ask(run, server)["objects"] == 8


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
