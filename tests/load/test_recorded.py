"""Recorded requests become arrivals: named without ids, sent as they were, right if as then."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.evidence.journal import END
from harness.load.ledger import read_lines
from harness.load.recorded import (
    OPERATIONS_MAX,
    Replay,
    expected,
    operations,
    share_s,
    templates,
)
from harness.load.settings import Settings
from harness.plan.logfile import METHODS, read_records, recording_of

from .server import Faults, StandIn
from .test_generator import ROOT, Tallies, drive, server, wait_for_end  # noqa: F401


def line(second: int, request: str, status: int = 200) -> str:
    return (
        f'::1 - - [01/Mar/2026:10:00:{second:02} +0000] "{request} HTTP/1.1" {status} 5 "-" "x"\n'
    )


#: What a flight is entered with where none takes off.
ENGINE = SimpleNamespace(methods={})


class FakeClient:
    """What a request is made with; nothing is sent."""

    def head(self, method, path, headers, length=None):
        lines = [f"{method} /api{path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        lines += [] if length is None else [f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_ids_are_folded_and_words_stay():
    targets = [b"/v1/files/123", b"/v1/files/9f8e-77", b"/img/a%20b/thumb.jpg?w=3", b"/", b"/a@b.c"]
    assert templates(targets) == ["/v1/files/{}", "/v1/files/{}", "/img/{}/thumb.jpg", "/", "/{}"]


def test_many_words_in_one_place_are_ids_too():
    letters = itertools.product("abcde", repeat=2)
    targets = [f"/user/{''.join(pair)}/photo".encode() for pair in letters]
    assert set(templates(targets)) == {"/user/{}/photo"}
    assert templates([b"/" + b"/".join([b"a"] * 12)]) == ["/a/a/a/a/a/a/a/a/{…}"]


def test_operations_are_few_and_the_rarest_share_a_name(tmp_path):
    log = tmp_path / "log"
    paths = [f"/{a}/{b}/x" for a in "abcdefghij" for b in "abcdefghij"]
    log.write_text("".join(line(n % 60, f"GET {path}") for n, path in enumerate(paths * 2)))
    records = read_records(log)
    names, op_of = operations(records)
    assert len(names) == len(set(names)) == OPERATIONS_MAX
    assert names[-1] == "GET (other)"
    assert len(op_of) == len(records.targets) == 100


def test_no_query_and_no_secret_is_in_a_name(tmp_path):
    log = tmp_path / "log"
    log.write_text(line(0, "GET /reset/tok3n-S3CRET?key=hidden") + line(1, "GET /ok"))
    names, _ = operations(read_records(log))
    assert sorted(names) == ["GET /ok", "GET /reset/{}"]


@pytest.mark.parametrize(
    ("recorded", "right", "wrong"),
    [
        (200, {200, 204, 206}, {302, 304, 404, 500}),
        (206, {200, 206}, {416}),
        (304, {200, 304}, {302, 404}),
        (302, {301, 302}, {200, 404}),
        (404, {404, 200}, {403, 500}),
        (403, {403}, {200, 404}),
        (503, {200, 404}, {500, 503}),
        (0, {200}, {502}),
    ],
)
def test_an_answer_is_right_if_it_is_as_when_it_was_recorded(recorded, right, wrong):
    assert right <= expected(recorded)
    assert not wrong & expected(recorded)


def test_each_arrival_is_the_next_record_and_workers_share_them(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(line(n, f"GET /f/{n}?q={n}", 200 + n % 2 * 204) for n in range(7)))
    records = read_records(log, seed=7)
    sent = {}
    for worker in range(2):
        settings = Settings(seed=7, worker=worker, workers=2, loop=True, duration_s=14)
        replay = Replay(records, settings, FakeClient(), {"Accept": "*/*"})
        (take_off,) = (takeoff for _, takeoff in replay.takeoffs().values())
        for offset_s in share_s(settings, records, worker, 2):
            assert replay.pick() == 0
            flight = take_off(ENGINE, offset_s, offset_s)
            sent[offset_s] = (flight.ask.head, 404 in flight.ask.expect)
    assert [sent[t] for t in sorted(sent)] == [
        (f"GET /api/f/{n}?q={n} HTTP/1.1\r\nAccept: */*\r\n\r\n".encode(), n % 2 == 1)
        for n in (*range(7), *range(7))
    ]


def test_uploads_are_sent_with_as_many_bytes_as_were_recorded(tmp_path):
    har = tmp_path / "har"
    entries = [
        {
            "startedDateTime": f"2026-03-01T10:00:0{n}.5Z",
            "request": {"method": "PUT", "url": f"https://h/f/{n}", "bodySize": size},
            "response": {"status": 201},
        }
        for n, size in enumerate((5, 40_000))
    ]
    har.write_text(json.dumps({"log": {"entries": entries}}))
    replay = Replay(read_records(har, methods=METHODS), Settings(), FakeClient())
    (take_off,) = (takeoff for _, takeoff in replay.takeoffs().values())
    replay.pick()
    small = take_off(ENGINE, 0.0, 0.0).ask
    assert small.head.endswith(b"Content-Length: 5\r\n\r\n\0\0\0\0\0")
    replay.pick()
    big = take_off(ENGINE, 0.0, 0.0).ask
    assert big.head.endswith(b"Content-Length: 40000\r\n\r\n")
    assert (len(big.body), big.size_bytes) == (40_000, 40_000)
    assert os.pread(big.body.fd, 50_000, 0) == bytes(40_000)


# ---- the whole generator ----------------------------------------------------------------------


NOT_FOUND = (404, "text/plain", b"nothing here")


@pytest.fixture
def log(tmp_path) -> Path:
    """Three seconds: a burst of 40 in the first, nothing in the second, 20 in the third.

    Of the burst every other was refused, and not missing."""
    path = tmp_path / "access.log"
    burst = [line(0, f"GET /v1/missing/{n}?token=s3cret", 404 - n % 2) for n in range(40)]
    later = [line(2, "GET /healthz?token=s3cret", 404) for _ in range(20)]
    path.write_text("".join([*burst, line(1, "DELETE /v1/files/1", 204), *later]))
    return path


def test_two_processes_send_what_was_recorded_when_it_is_due(drive, tmp_path, server, log):  # noqa: F811
    recording = recording_of(log, str(log), speed=2.0, methods=("GET",), seed=7, horizon_s=60)
    assert recording.per_second[:6] == (40, 60, 20, 40, 60, 20)
    server.faults.answer = NOT_FOUND
    driver = drive(
        locustfile=ROOT / "locustfiles" / "replay.py",
        rate=recording.peak,
        arrivals="recorded",
        mix={},
        recording=recording,
        duration_s=3,
        processes=2,
    )
    wait_for_end(tmp_path, 2, 20)
    driver.stop(5)
    tallies = Tallies(tmp_path)
    # 1.5 s for each round of 60.
    assert sum(tallies.planned.values()) == 120 == recording.arrivals_by(3.0)
    assert tallies.ops == {"GET /v1/missing/{}": 80, "GET /healthz": 40}
    assert tallies.outcomes == {("ok", ""): 80, ("failed", "status-404"): 40}
    records = read_records(log, methods=("GET",), seed=7)
    due: Counter[int] = Counter()
    for worker, start in enumerate(tallies.of("tally.start")):
        assert start["arrivals"] == "recorded"
        mine = itertools.takewhile(lambda t: t < 3, records.instants_s(2.0, worker, 2, loop=True))
        due.update(int(start["start_t"] + t) for t in mine)
    assert dict(tallies.planned) == dict(due)
    for worker in range(2):
        assert [each["kind"] for each in read_lines(tmp_path / f"ledger/w{worker}.jsonl")] == [END]
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p != log)
    assert b"s3cret" not in written


def test_plain_locust_replays_a_recording_and_ends_with_it(tmp_path, log):
    report = tmp_path / "report.json"
    argv = [sys.executable, "-m", "locust", "-f", ROOT / "locustfiles" / "replay.py", "--headless"]
    argv += ["--recording", log, "--speed", "3x", "--only-summary"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    with StandIn(faults=Faults(answer=NOT_FOUND)) as service:
        done = subprocess.run(
            [*argv, "--host", service.url, "--json-file", report.with_suffix("")],
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=30,
            check=False,
        )
    counted = {
        entry["name"]: (entry["num_requests"], entry["num_failures"])
        for entry in json.loads(report.read_text())
    }
    assert counted == {"GET /v1/missing/{}": (40, 20), "GET /healthz": (20, 0)}, done.stderr
