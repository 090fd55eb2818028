"""Logs of every format are read to the same requests; what cannot be read is counted."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import PlanInvalid
from harness.plan import Plan, parse_plan
from harness.plan.accesslog import NoRequest, common, load_balancer, origin_form
from harness.plan.logfile import METHODS, read_records, recording_of
from harness.plan.recording import Recording

REPO = Path(__file__).resolve().parents[2]
COMMON = b'10.0.0.1 - ann [01/Mar/2026:10:00:%02d +0100] "%s %s HTTP/1.1" %d 512\n'
ALB = (
    b"h2 2026-03-01T09:00:05.250000Z app/lb/50 10.0.0.1:2817 10.0.1.7:80 0.000 0.048 0.002 %d %d "
    b'340 366 "%s %s HTTP/2.0" "curl/8 \\"x\\"" ECDHE TLSv1.3 arn:aws:tg/t "Root=1-5" "h.example" '
    b'"arn:cert" 0 2026-03-01T09:00:05.%06dZ "forward" "-" "-" "10.0.1.7:80" "200" "-" "-"\n'
)


def alb(n: int, method: bytes = b"GET", url: bytes = b"https://h.example:443/f/1?q=2") -> bytes:
    return ALB % (200, 200, method, url, 1000 * n)


def written(tmp_path: Path, *lines: bytes) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(lines))
    return path


def requests(path: Path, **options) -> list[tuple[float, str, bytes, int]]:
    found = read_records(path, **options)
    return [
        (round(t, 6), found.methods[what], found.targets[what], status)
        for t, what, status in zip(found.offsets_s, found.what, found.statuses, strict=True)
    ]


# ---- one line ----------------------------------------------------------------------------------


def test_a_line_of_the_common_format_is_read_with_its_zone() -> None:
    record = common(COMMON % (7, b"GET", b"/a?b=c", 404))
    assert record[1:] == (False, b"GET", b"/a?b=c", 404, 0)
    assert record.t == 1772355607  # 09:00:07 UTC
    combined = (COMMON % (7, b"GET", b"/a", 200)).rstrip() + b' "https://x/" "curl \\"8\\""'
    assert common(combined).target == b"/a"


def test_a_load_balancers_line_is_due_when_the_request_came() -> None:
    record = load_balancer(alb(123))
    assert record == (1772355605.123, True, b"GET", b"/f/1?q=2", 200, 340)
    older = alb(0).partition(b' "forward"')[0].rpartition(b" ")[0] + b"\n"
    assert load_balancer(older).t == pytest.approx(1772355605.25 - 0.05)
    unserved = load_balancer(alb(0).replace(b"0.000 0.048 0.002 200 200", b"-1 -1 -1 460 -"))
    assert unserved.status == 460


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"/a/b?c=d#e", b"/a/b?c=d"),
        (b"http://h.example:80", b"/"),
        (b"https://user:pw@h.example/a?b", b"/a?b"),
        (b"http://h.example?b", b"/?b"),
        (b'/a\\x22\\"\\\\', b"/a%22%22%5c"),
        ("/ä".encode(), b"/%C3%A4"),
        (b"/<x>", b"/%3Cx%3E"),
    ],
)
def test_a_target_becomes_path_and_query(target: bytes, origin: bytes) -> None:
    assert origin_form(target) == origin


@pytest.mark.parametrize("request_line", [b"-", b"\\x16\\x03\\x01", b"GET", b"OPTIONS * HTTP/1.1",
                                          b"CONNECT h:443 HTTP/1.1", b"quit"])  # fmt: skip
def test_a_line_without_a_request_is_no_damage(request_line: bytes) -> None:
    with pytest.raises(NoRequest):
        common(b'::1 - - [01/Mar/2026:10:00:00 +0000] "%s" 400 0' % request_line)


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"::1 - - [01/Mrz/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 0",
     b'::1 - - [01/Mar/2026:10:00:00] "GET / HTTP/1.1" 200 0',
     b'::1 - - [01/Mar/2026:10:00:00 +0000] "GET / HTTP/1.1', b"\xff\x00" * 40],
)  # fmt: skip
def test_a_damaged_line_is_no_request(line: bytes) -> None:
    for parse in (common, load_balancer):
        with pytest.raises(ValueError, match=r"^(?!no request|no path)"):
            parse(line)


damage = st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=6)), max_size=4)


@given(st.sampled_from([COMMON % (7, b"GET", b"/a?b=c", 404), alb(5), alb(0)[:150]]), damage)
def test_a_line_damaged_anyhow_is_refused_or_still_a_request(line: bytes, cuts: list) -> None:
    for at, bytes_ in cuts:
        line = line[:at] + bytes_ + line[at + len(bytes_) :]
    for parse in (common, load_balancer):
        try:
            record = parse(line)
        except ValueError:
            continue
        assert abs(record.t) < 1e12
        assert re.fullmatch(rb"/[!-~]*", record.target)
        assert record.method.isalpha()
        assert 0 <= record.status < 1000


def test_what_no_server_would_write_is_bounded(tmp_path: Path) -> None:
    huge = alb(1).replace(b"340 366", b"9" * 30 + b" 366")
    slow = alb(0).partition(b' "forward"')[0].rpartition(b" ")[0].replace(b"0.048", b"inf")
    lines = [*(alb(n) for n in range(80)), huge, slow]
    found = read_records(written(tmp_path, *lines, b"\n", b"x" * 70_000, b"\n"))
    assert found.skipped == {"malformed": 3}  # the long line is read as two
    assert max(found.sizes) == 340


# ---- a file ------------------------------------------------------------------------------------


def test_requests_of_a_second_are_spread_over_it_by_the_seed_in_order(tmp_path: Path) -> None:
    lines = [COMMON % (s, b"GET", b"/%d" % n, 200) for n, s in enumerate([5, 5, 5, 7, 7])]
    path = written(tmp_path, *lines)
    found = requests(path, seed=1)
    assert [int(t) for t, *_ in found] == [0, 0, 0, 2, 2]
    assert [target for *_, target, _ in found] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert sorted(found) == found == requests(path, seed=1) != requests(path, seed=2)
    assert len({t for t, *_ in found}) == 5
    assert read_records(path).period_s == 3


def test_a_load_balancers_instants_are_kept_and_put_in_order(tmp_path: Path) -> None:
    log = [alb(30), alb(10), alb(20, url=b"http://10.0.0.9:80/g"), alb(60)]
    path = tmp_path / "alb.log.gz"
    path.write_bytes(gzip.compress(b"".join(log)))
    assert requests(path) == [
        (0.0, "GET", b"/f/1?q=2", 200),
        (0.01, "GET", b"/g", 200),
        (0.02, "GET", b"/f/1?q=2", 200),
        (0.05, "GET", b"/f/1?q=2", 200),
    ]
    found = read_records(path)
    assert (found.format, found.out_of_order, len(found.targets)) == ("load balancer", 2, 2)
    assert found.period_s == pytest.approx(0.05 + 0.05 / 3)


def test_a_log_of_cloudfront_is_read_by_its_columns(tmp_path: Path) -> None:
    columns = (
        "date time x-edge-location sc-bytes cs-method cs(Host) cs-uri-stem sc-status cs-uri-query"
    )
    rows = ["2026-03-01\t10:00:01\tFRA\t9\tGET\td.cf.net\t/a.jpg\t200\t-",
            "2026-03-01\t10:00:03\tFRA\t9\tHEAD\td.cf.net\t/b\t304\tw=3"]  # fmt: skip
    text = f"#Version: 1.0\n#Fields: {columns}\n" + "\n".join(rows)
    found = requests(written(tmp_path, text.encode()))
    assert [(int(t), *rest) for t, *rest in found] == [
        (0, "GET", b"/a.jpg", 200),
        (2, "HEAD", b"/b?w=3", 304),
    ]


def entry(url: str, at: str = "10:00:00.250", method: str = "GET") -> dict:
    request = {"method": method, "url": url, "headers": [{"name": "Cookie", "value": "s3cret"}]}
    return {"startedDateTime": f"2026-03-01T{at}+01:00", "request": request,
            "response": {"status": 200}}  # fmt: skip


def har(tmp_path: Path, *entries: object) -> Path:
    return written(tmp_path, json.dumps({"log": {"version": "1.2", "entries": entries}}).encode())


def test_of_a_har_file_the_host_asked_most_is_replayed(tmp_path: Path) -> None:
    path = har(
        tmp_path,
        entry("https://app.example/a?b=c#d"),
        entry("https://ads.example/track"),
        entry("data:image/png;base64,AA"),
        entry("https://app.example/b", "10:00:01.750"),
    )
    found = requests(path)
    assert found == [(0.0, "GET", b"/a?b=c", 200), (1.5, "GET", b"/b", 200)]
    assert read_records(path).skipped == {"other host": 1, "no request": 1}


def test_only_what_changes_nothing_is_replayed_unless_asked(tmp_path: Path) -> None:
    methods = (b"GET", b"POST", b"DELETE", b"PUT", b"BREW", b"HEAD")
    path = written(tmp_path, *(COMMON % (n, m, b"/", 200) for n, m in enumerate(methods)))
    found = read_records(path)
    assert found.methods == ["GET", "HEAD"]
    assert found.skipped == {
        "method POST": 1, "method DELETE": 1, "method PUT": 1, "method of another kind": 1,
    }  # fmt: skip
    assert len(read_records(path, methods=METHODS)) == 5


def test_a_few_damaged_lines_are_counted_and_many_are_refused(tmp_path: Path) -> None:
    good = [COMMON % (n % 60, b"GET", b"/", 200) for n in range(60)]
    found = read_records(written(tmp_path, *good[:30], b"torn li", b"\n", *good[30:], b"::1 - - ["))
    assert (len(found), found.skipped) == (60, {"malformed": 2})
    bad = [b"no log at all\n"] * 5
    with pytest.raises(PlanInvalid, match="5 of 65 lines are not of the common format") as caught:
        read_records(written(tmp_path, *good[:30], *bad, *good[30:]))
    assert (caught.value.where.line, caught.value.where.file) == (31, str(tmp_path / "access.log"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no lines"),
        (b"hello\nworld\n", "none of the first 2 lines"),
        (b'{"log": {"entries": [', "not JSON"),
        (b'{"log": 5}', "no HAR"),
        (b'{"log": {"entries": [1, 2, 3]}}', r"3 of 3 entries .* log.entries\[0\]"),
        (b"#Fields: date time\n2026-03-01\t10:00:00\n", "no request in the columns"),
        (COMMON % (0, b"POST", b"/", 200), r"no request to replay \(method POST: 1\)"),
        (b"\x1f\x8b\x08\x00broken", "cannot be read"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(PlanInvalid, match=words) as caught:
        read_records(written(tmp_path, content))
    assert caught.value.hint
    assert str(tmp_path) in str(caught.value)


def test_what_is_due_is_the_same_for_sender_and_judge(tmp_path: Path) -> None:
    lines = [COMMON % (s, b"GET", b"/", 200) for s in (0, 0, 0, 1, 4, 4, 9)]
    path = written(tmp_path, *lines)
    records = read_records(path, seed=3)
    recording = recording_of(path, "x.log", speed=1.5, methods=("GET",), seed=3, horizon_s=30)
    shares = [list(_until(records.instants_s(1.5, w, 3, loop=True), 30)) for w in range(3)]
    instants = sorted(t for share in shares for t in share)
    assert instants == list(_until(records.instants_s(1.5, loop=True), 30))
    for t in range(31):
        assert recording.arrivals_by(t) == sum(i < t for i in instants) == records.due_by(t, 1.5)
    assert len(list(records.instants_s(1.5))) == 7
    assert recording.peak == max(recording.per_second)
    with pytest.raises(ValueError, match="up to 30 s"):
        recording.arrivals_by(30.5)
    assert Recording.from_json(json.loads(json.dumps(recording.to_json()))) == recording


def _until(instants, end_s: float):
    for t in instants:
        if t >= end_s:
            return
        yield t


# ---- in a plan ---------------------------------------------------------------------------------

PLAN = """\
version: 1
name: replayed
target: {service: "http://files.lab:8080", primary: us-east-1, standby: us-west-2}
traffic:
  locustfile: locustfiles/replay.py
  recording: LOG
  speed: 2x
  seed: 7
  timeout: 5s
baseline: 10s
objectives:
  - availability: at least 99 %
"""


def replayed(tmp_path: Path, *changes: tuple[str, str], rate: str | None = None) -> Plan:
    text = PLAN.replace("LOG", str(tmp_path / "access.log"))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_plan(text, REPO / "replayed.yaml", rate=rate)


def test_a_plan_keeps_what_the_judge_needs_and_no_request(tmp_path: Path) -> None:
    path = written(tmp_path, *(COMMON % (n, b"GET", b"/?key=s3cret", 200) for n in range(10)))
    plan = replayed(tmp_path)
    recording = plan.traffic.recording
    assert (recording.records, recording.recorded_s, recording.speed) == (10, 10, 2)
    assert plan.traffic.curve.arrivals_by(10) == 20
    assert plan.traffic.arrivals == "recorded"
    document = json.dumps(plan.to_json())
    assert Plan.from_json(json.loads(document)) == plan
    assert "s3cret" not in document
    assert recording.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (("  seed: 7", "  rate: 5/s\n  seed: 7"), "traffic.rate", "there is no rate"),
        (("  seed: 7", "  mix: {list: 1}\n  seed: 7"), "traffic.mix", "there is no mix"),
        (("speed: 2x", "speed: 2"), "traffic.speed", "not a speed"),
        (("speed: 2x", "speed: 0x"), "traffic.speed", "not a speed"),
        (("speed: 2x", "sped: 2x"), "traffic.sped", "unknown key"),
        (("speed: 2x", "methods: [GET, GTE]"), "traffic.methods", "'GTE' is not a method"),
        (("access.log", "acess.log"), "traffic.recording", "there is no file"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path, change, key, words) -> None:
    written(tmp_path, COMMON % (0, b"GET", b"/", 200))
    with pytest.raises(PlanInvalid, match=words) as caught:
        replayed(tmp_path, change)
    assert caught.value.where.key == key
    assert caught.value.where.line
    assert caught.value.hint


def test_no_recording_can_say_that_no_upload_was_lost(tmp_path) -> None:
    written(tmp_path, COMMON % (0, b"GET", b"/", 200))
    with pytest.raises(PlanInvalid, match="not kept count of"):
        replayed(tmp_path, ("availability: at least 99 %", "durability: no upload lost or altered"))


def test_a_broken_recording_and_a_rate_are_refused_before_anything_is_touched(tmp_path) -> None:
    path = written(tmp_path, b"nothing\n")
    with pytest.raises(PlanInvalid, match="known format") as caught:
        replayed(tmp_path)
    assert (caught.value.where.file, caught.value.where.line) == (str(path), 1)
    written(tmp_path, COMMON % (0, b"GET", b"/", 200))
    with pytest.raises(PlanInvalid, match="own rate"):
        replayed(tmp_path, rate="100/s")
