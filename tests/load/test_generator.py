"""The whole generator: Locust as a subprocess against a real server, evidence read from files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.evidence import histogram
from harness.load import ledger, readback
from harness.load.arrivals import Schedule
from harness.load.driver import LoadDriver, LoadFailed
from harness.load.readback import read_back
from harness.plan.shapes import parse_rate

from .server import StandIn

ROOT = Path(__file__).parents[2]
MIX = {"download": 64, "upload": 12, "image": 15, "list": 6, "delete": 3}


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def drive(tmp_path, server):
    """Starts a driver with defaults, waits until it sends, and stops it in the end."""
    drivers = []

    def start(ready: bool = True, **changes) -> LoadDriver:
        given = {
            "locustfile": ROOT / "locustfiles" / "mixed.py",
            "rate": 100,
            "arrivals": "poisson",
            "seed": 7,
            "mix": MIX,
            "timeout_s": 2.0,
            "service_url": server.url,
            "dns_server": None,
            "duration_s": None,
            **changes,
        }
        driver = LoadDriver()
        drivers.append(driver)
        driver.start(tmp_path, **given)
        if ready:
            driver.wait_ready(20)
        return driver

    yield start
    for driver in drivers:
        driver.stop(5)


def lines(path: Path, kind: str | None = None) -> list[dict]:
    found = list(ledger.read_lines(path))
    return [line for line in found if kind is None or line["kind"] == kind]


class Tallies:
    """All tally files of a run added up."""

    def __init__(self, run_dir: Path) -> None:
        self.files = [lines(path) for path in sorted((run_dir / "tallies").iterdir())]
        self.planned: Counter[int] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.ops: Counter[str] = Counter()
        latency = []
        for line in (line for file in self.files for line in file if line["kind"] == "tally"):
            for t, second in line["seconds"].items():
                self.planned[int(t)] += second["planned"]
                for cell in second["cells"]:
                    self.outcomes[cell["outcome"], cell["error"]] += cell["n"]
                    self.ops[cell["op"]] += cell["n"]
                    latency.append(histogram.from_json(cell["latency"]))
        self.latency = histogram.merge(latency)

    def quantile_s(self, q: float) -> float:
        return histogram.quantile_us(self.latency, q).high / 1e6

    def of(self, kind: str) -> list[dict]:
        return [line for file in self.files for line in file if line["kind"] == kind]


def drawn(worker: int, n: int) -> Counter[str]:
    """The operations of the first ``n`` arrivals of this worker."""
    source = random.Random(f"operations:7:{worker}")
    return Counter(source.choices(list(MIX), list(MIX.values()), k=n))


def wait_for_end(run_dir: Path, workers: int, deadline_s: float) -> None:
    """Until every generator has closed its evidence: one may end a little before another."""
    give_up = time.monotonic() + deadline_s
    while len(Tallies(run_dir).of("tally.end")) < workers:
        assert time.monotonic() < give_up, "the generators did not end by themselves"
        time.sleep(0.1)


def test_two_processes_plan_exactly_the_schedule_and_end_by_themselves(drive, tmp_path, server):
    shape = "ramp 50/s to 150/s over 3s"
    driver = drive(processes=2, duration_s=3, rate=150, shape=shape)
    wait_for_end(tmp_path, 2, 15)
    driver.stop(5)
    tallies = Tallies(tmp_path)
    schedule = Schedule(parse_rate(shape), "poisson", 7, duration_s=3)
    expected: Counter[int] = Counter()
    assert len({start["start_t"] for start in tallies.of("tally.start")}) == 1
    expected_of = [sum(1 for _ in schedule.share_s(worker, 2)) for worker in (0, 1)]
    for worker, start in enumerate(tallies.of("tally.start")):
        assert start["rate"] == 75
        expected.update(int(start["start_t"] + s) for s in schedule.share_s(worker, 2))
    assert dict(tallies.planned) == dict(expected)
    assert sum(expected.values()) == len(list(schedule.offsets_s()))
    assert tallies.outcomes == {("ok", ""): sum(expected.values())}
    # Who takes an arrival changes nothing in what it is: each is drawn by the shares alone.
    assert tallies.ops == sum((drawn(worker, expected_of[worker]) for worker in (0, 1)), Counter())
    assert [end["in_flight"] for end in tallies.of("tally.end")] == [0, 0]
    # Warm-up stored its objects in the ledger, but they are no planned arrivals.
    written = [line for n in (0, 1) for line in lines(tmp_path / f"ledger/w{n}.jsonl", "write")]
    assert len(written) == 100 + tallies.ops["upload"]
    history = lines(tmp_path / "history.jsonl")
    end = next(line for line in history if line["kind"] == "load.end")
    assert end["workers_ended"] == 2
    ended = {line["source"] for line in history if line["kind"] == "source.end"}
    assert ended == {line["source"] for line in history} == {"load", "fleet", "load/w0", "load/w1"}
    marks = [line for line in history if line["kind"] == "mark.region"]
    assert {(mark["from"], mark["to"]) for mark in marks} == {("", "us-east-1")}


def test_a_frozen_service_shows_in_the_latency_of_all_that_was_due_meanwhile(
    drive, tmp_path, server
):
    drive(rate=200, arrivals="even", duration_s=5)
    time.sleep(1.5)
    server.freeze(1.0)
    wait_for_end(tmp_path, 1, 15)
    tallies = Tallies(tmp_path)
    assert sum(tallies.planned.values()) == 1000
    assert tallies.outcomes == {("ok", ""): 1000}
    # 200 of 1000 arrivals fell into the freeze, evenly: the p99 is the wait of the tenth.
    # Never better than the truth; on a busy machine the backlog takes longer to drain.
    assert 0.9 <= tallies.quantile_s(0.99) <= 1.4
    assert 0.95 <= tallies.quantile_s(1.0) <= 1.5
    assert tallies.quantile_s(0.5) < 0.3


def test_a_killed_generator_leaves_a_gap_that_can_be_seen(drive, tmp_path, server):
    server.faults.methods = frozenset({"GET"})
    server.faults.delay_s = 0.5
    driver = drive(kill_after_s=2.5)
    give_up = time.monotonic() + 15
    while driver.alive():
        assert time.monotonic() < give_up, "the generator was not killed"
        time.sleep(0.1)
    driver.stop(5)
    tallies = Tallies(tmp_path)
    assert tallies.of("tally.start")
    assert tallies.of("tally.end") == tallies.of("source.end") == []
    assert sum(tallies.planned.values()) > sum(tallies.outcomes.values()) > 0
    end = lines(tmp_path / "history.jsonl", "load.end")[0]
    assert (end["exit_code"], end["workers_ended"]) == (-signal.SIGKILL, 0)


def test_lost_and_altered_uploads_are_found_by_read_back(drive, tmp_path, server, monkeypatch):
    monkeypatch.setattr(readback, "RETRY_AFTER_S", 0.02)
    drive(duration_s=2, mix={"upload": 90, "delete": 10})
    server.faults.lose_every, server.faults.alter_every = 10, 7
    wait_for_end(tmp_path, 1, 15)
    gone = {line["object"] for line in lines(tmp_path / "ledger/w0.jsonl", "delete")}
    summary = read_back(
        tmp_path, service_url=server.url, dns_server=None, timeout_s=2.0, deadline_s=20
    )
    assert server.lost
    assert set(summary["lost"]) == set(server.lost) - gone
    assert set(summary["changed"]) == set(server.altered) - gone
    assert summary["error"] == 0
    assert summary["undeleted"] == []


def test_stopping_drains_what_is_in_flight_and_uploads_in_doubt_are_unsure(drive, tmp_path, server):
    driver = drive(timeout_s=1.0, mix={"upload": 50, "list": 50})
    time.sleep(1.3)
    figures = driver.latest()
    server.faults.hang = True
    time.sleep(0.3)
    started = time.monotonic()
    driver.stop(10)
    assert time.monotonic() - started < 4
    tallies = Tallies(tmp_path)
    assert set(tallies.outcomes) == {("ok", ""), ("unsure", "timeout"), ("failed", "timeout")}
    assert sum(tallies.planned.values()) == sum(tallies.outcomes.values())
    written = Counter(line["outcome"] for line in lines(tmp_path / "ledger/w0.jsonl", "write"))
    assert written["unsure"] == tallies.outcomes["unsure", "timeout"]
    assert driver.alive() is False
    assert figures.in_flight >= 0


def test_when_too_much_is_in_flight_the_rest_is_not_sent_and_counted(
    drive, tmp_path, server, monkeypatch
):
    server.faults.methods = frozenset({"GET"})
    server.faults.hang = True
    drive(rate=400, duration_s=2, max_in_flight=400, timeout_s=1.5, mix={"list": 1})
    wait_for_end(tmp_path, 1, 15)
    tallies = Tallies(tmp_path)
    not_sent = tallies.outcomes["not_sent", "too-many-in-flight"]
    assert not_sent > 0
    assert tallies.outcomes["failed", "timeout"] + not_sent == sum(tallies.planned.values())
    assert tallies.of("tally.end")[0]["not_sent"] == not_sent


def test_more_than_a_process_can_send_is_not_sent_and_the_rest_is_answered(drive, tmp_path, server):
    drive(rate=300_000, duration_s=2, max_in_flight=400, mix={"list": 1})
    wait_for_end(tmp_path, 1, 25)
    tallies = Tallies(tmp_path)
    # It never sends more than it finds the time to read the answers of.
    assert tallies.outcomes["not_sent", "generator-late"] > 0
    assert tallies.outcomes["ok", ""] > 0
    assert sum(tallies.outcomes.values()) == sum(tallies.planned.values())
    assert sum(tallies.planned.values()) > 500_000


def test_a_service_that_cannot_be_reached_fails_the_warm_up_with_its_reason(drive, tmp_path):
    driver = drive(service_url="http://127.0.0.1:9", warm_up_s=0.5, ready=False)
    with pytest.raises(LoadFailed, match="last error: token-refused"):
        driver.wait_ready(20)
    assert not (tmp_path / "tallies" / "w0.jsonl").read_text().count("tally.start")


def test_a_mix_with_an_unknown_operation_is_refused_by_name(drive):
    driver = drive(mix={"downlaod": 1}, ready=False)
    with pytest.raises(LoadFailed, match="downlaod"):
        driver.wait_ready(20)


def test_tokens_are_renewed_and_a_refused_one_is_replaced(drive, tmp_path, server):
    server.faults.token_life_s = 2.0
    drive(duration_s=3, behaviour={"verify": 0.25})
    server.revoke_tokens()
    wait_for_end(tmp_path, 1, 15)
    tallies = Tallies(tmp_path)
    assert set(tallies.outcomes) == {("ok", "")}
    assert server.requests["POST"] > 40
    # What the plan says of its users has come to them, and what came of it to the evidence.
    end = tallies.of("tally.end")[0]
    assert end["bodies"] > 100
    assert 0.1 < end["verified"] / end["bodies"] < 0.4
    assert 1 < end["users_most"] <= end["sessions"]


@pytest.mark.parametrize("name", ["mixed", "download", "upload", "image"])
def test_plain_locust_runs_each_locustfile_and_keeps_its_statistics(name, tmp_path, server):
    report = tmp_path / "report.json"  # Locust adds the ending
    argv = [sys.executable, "-m", "locust", "-f", ROOT / "locustfiles" / f"{name}.py"]
    argv += ["--host", server.url, "--headless", "--rate", "200", "-t", "2s", "--only-summary"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    done = subprocess.run(
        [*argv, "--json-file", report.with_suffix("")],
        cwd=tmp_path,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    entries = json.loads(report.read_text())
    assert sum(entry["num_requests"] for entry in entries) > 40, done.stderr.decode()
    assert sum(entry["num_failures"] for entry in entries) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
