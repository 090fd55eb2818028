"""What contestants say of their runs is read right, and what they get wrong is seen."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.contestants import (
    K6,
    Autocannon,
    H2load,
    Hey,
    Job,
    Said,
    Tallied,
    Vegeta,
    Wrk,
    quantiles_ms,
)
from tests.bench.programs import Program
from tests.bench.runs import Sample

PROGRAM = Program(Path("/usr/bin/true"))

WRK = """Running 1s test @ http://127.0.0.1:8099/200.txt
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.65ms    2.33ms  13.39ms   84.33%
    Req/Sec    18.48k     8.04k   37.96k    70.00%
  Latency Distribution
     50%  124.00us
     99%    9.59ms
  18443 requests in 1.00s, 7.70MB read
  Socket errors: connect 1, read 2, write 0, timeout 0
  Non-2xx or 3xx responses: 4
Requests/sec:  18396.60
"""
HEY = """
Summary:
  Total:	1.0024 secs
  Slowest:	0.0140 secs
  Average:	0.0020 secs

Latency distribution:
  50% in 0.0005 secs
  95% in 0.0084 secs
  99% in 0.0106 secs

Status code distribution:
  [200]	5011 responses
  [503]	2 responses
"""
H2LOAD = """
finished in 1.00s, 28481.00 req/s, 11.90MB/s
requests: 28481 total, 28491 started, 28481 done, 28470 succeeded, 11 failed, 3 errored, 0 timeout
status codes: 28481 2xx, 0 3xx, 0 4xx, 0 5xx
"""
AUTOCANNON = """{"errors":1,"non2xx":2,"latency":{"max":28,"p50":0,"p97_5":6,"p99":10},"requests":\
{"total":13331}}"""


def job(folder: Path, workload: str = "small", **more: object) -> Job:
    return Job(workload, "http://127.0.0.1:1", folder, 1.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contestant", "output", "requests", "failures", "latency"),
    [
        (Wrk(PROGRAM), WRK, 18443, 7, {"p50": 0.124, "p99": 9.59, "max": 13.39}),
        (Hey(PROGRAM), HEY, 5013, 2, {"p50": 0.5, "p95": 8.4, "p99": 10.6, "max": 14.0}),
        (H2load(PROGRAM), H2LOAD, 28481, 14, {}),
        (Autocannon(PROGRAM), AUTOCANNON, 13331, 3, {"p50": 0, "p95": 6, "p99": 10, "max": 28}),
    ],
    ids=["wrk", "hey", "h2load", "autocannon"],
)
def test_what_the_programs_print_is_read(
    contestant, output, requests, failures, latency, tmp_path
) -> None:
    said = contestant.said(job(tmp_path), output)
    assert (said.requests, said.failures) == (requests, failures)
    assert said.latency_ms == pytest.approx(latency)
    assert said.uncounted_max == 100
    with pytest.raises(ValueError):
        contestant.said(job(tmp_path), "cannot connect")


def test_an_upload_and_a_rate_reach_the_programs(tmp_path) -> None:
    upload = job(tmp_path, "upload")
    ((argv, _),) = Hey(PROGRAM).commands(upload)
    assert argv[-1] == "http://127.0.0.1:1/up"
    assert Path(argv[argv.index("-D") + 1]).stat().st_size == 256 * 1024
    ((argv, _),) = Hey(PROGRAM).commands(job(tmp_path, rate=10_000.0))
    assert argv[argv.index("-q") + 1] == "100", "its rate is one of each of its 100 workers"
    assert not Wrk(PROGRAM).can(job(tmp_path, rate=10_000.0))
    assert Wrk(PROGRAM, paced=True).can(job(tmp_path, rate=10_000.0))
    assert not Wrk(PROGRAM).can(job(tmp_path, "mix"))


def test_a_mix_goes_to_those_that_can_send_one(tmp_path) -> None:
    mix = job(tmp_path, "mix")
    ((argv, _),) = Vegeta(PROGRAM).commands(mix)
    targets = (tmp_path / "targets.txt").read_text()
    assert f"-targets={tmp_path / 'targets.txt'}" in argv
    urls = re.findall(r"^(?:GET|PUT) (\S+)$", targets, re.MULTILINE)
    paths = Counter(url.removeprefix(mix.url) for url in urls)
    assert paths == {"/200.txt": 7, "/64k.bin": 2, "/up": 1}
    assert targets.count(f"@{mix.body}") == 1
    ((argv, _),) = K6(PROGRAM).commands(mix)
    assert argv[1] == "run"
    (requests,) = re.findall(r"const requests = (.*);", Path(argv[-1]).read_text())
    assert [(r["method"], r["share"]) for r in json.loads(requests)] == [
        ("GET", 70),
        ("GET", 20),
        ("PUT", 10),
    ]


def test_a_tally_without_its_end_is_no_result(tmp_path) -> None:
    lines = [
        {"kind": "tally.start", "start_t": 5.0},
        {
            "kind": "tally",
            "lateness": {"900": 3},
            "seconds": {
                "5": {
                    "planned": 3,
                    "cells": [
                        {
                            "outcome": "ok",
                            "error": "",
                            "n": 2,
                            "latency": {"1280": 2},
                            "service": {"1280": 2},
                        },
                        {
                            "outcome": "not_sent",
                            "error": "late",
                            "n": 1,
                            "latency": {},
                            "service": {},
                        },
                        {
                            "outcome": "failed",
                            "error": "reset",
                            "n": 1,
                            "latency": {"1408": 1},
                            "service": {},
                        },
                    ],
                }
            },
        },
        {"kind": "tally.end", "planned": 4, "sent": 3, "not_sent": 1, "in_flight": 0},
    ]
    files = [tmp_path / name for name in ("w0.jsonl", "w1.jsonl")]
    for file in files:
        file.write_text("\n".join(map(json.dumps, lines)))
    tallied = Tallied.read(files)
    assert (tallied.planned, tallied.sent, tallied.not_sent, tallied.not_ok) == (8, 6, 2, 2)
    assert tallied.why == {"not_sent late": 2, "failed reset": 2}
    assert tallied.latency_ms()["p50"] == pytest.approx(1.024, rel=0.005)
    assert tallied.latency_ms()["max"] == pytest.approx(2.048, rel=0.005)
    files[1].write_text(json.dumps(lines[0]))
    with pytest.raises(ValueError, match=r"w1\.jsonl has no end"):
        Tallied.read(files)


def test_no_latencies_have_no_quantiles() -> None:
    assert quantiles_ms({}) == {}


@pytest.mark.parametrize(
    ("own", "uncounted", "at_target", "agrees"),
    [
        (100, 0, 100, True),
        (100, 0, 101, False),
        (100, 5, 105, True),
        (100, 5, 106, False),
        (101, 5, 100, False),  # more than ever arrived
        (None, 0, 100, True),
    ],
)
def test_counts_must_agree_but_for_what_was_in_flight(own, uncounted, at_target, agrees) -> None:
    sample = Sample(1, 1, 1, 1, 1, 1, 0, 1, 1, at_target, Said(own, uncounted_max=uncounted))
    assert (sample.disagreement() == "") is agrees
