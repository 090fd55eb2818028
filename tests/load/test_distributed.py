"""Real masters and workers of Locust: one schedule, and what happens when one of them dies."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.evidence.lines import read_lines
from harness.evidence.model import TallyCell, WorkerTally
from harness.evidence.traffic import read_tally
from harness.load.arrivals import Schedule
from harness.load.driver import free_port
from harness.plan.rates import constant

from .server import StandIn

ROOT = Path(__file__).parents[2]
LOCUSTFILE = """
from harness.load.user import OpenLoopUser, get

class Reader(OpenLoopUser):
    files = get("/v1/files?limit=1", expect=(401,))
    images = get("/v1/images/x?w=160", expect=(401,), weight=2)
"""
RATE = 150


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


class Processes:
    """Locust processes of one test; none outlives it."""

    def __init__(self, folder: Path, server: StandIn) -> None:
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.port = free_port()
        self._folder = folder
        self._server = server
        self._all: list[subprocess.Popen] = []
        (folder / "reader.py").write_text(LOCUSTFILE)

    def start(self, *options: str, **environment: str) -> subprocess.Popen:
        argv = [sys.executable, "-m", "locust", "-f", str(self._folder / "reader.py")]
        env = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
        with (self._folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                [*argv, *options],
                cwd=self._folder,
                env={**env, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(child)
        return child

    def master(self, *options: str, workers: int, **environment: str) -> subprocess.Popen:
        argv = ["--master", "--expect-workers", str(workers), "--host", self._server.url]
        argv += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(self.port)]
        argv += ["--rate", str(RATE), "--seed", "4", "--run-dir", str(self.run_dir)]
        return self.start(*argv, *options, **environment)

    def worker(self) -> subprocess.Popen:
        argv = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(self.port)]
        return self.start(*argv)

    def history(self, kind: str) -> list[dict]:
        path = self.run_dir / "history.jsonl"
        text = path.read_text() if path.exists() else ""
        found = [json.loads(line) for line in text.splitlines() if line]
        return [line for line in found if line["kind"] == kind]

    def tallies(self) -> list[WorkerTally]:
        """All of them, whole."""
        found = [read_tally(path, path.stem) for path in (self.run_dir / "tallies").iterdir()]
        assert not [gap for _, gaps in found for gap in gaps]
        return [tally for tally, _ in found]

    def wait_for(self, kind: str, deadline_s: float = 20.0) -> dict:
        give_up_m = time.monotonic() + deadline_s
        while not self.history(kind):
            assert time.monotonic() < give_up_m, (self._folder / "log.txt").read_text()
            time.sleep(0.05)
        return self.history(kind)[0]

    def wait_for_request(self, server: StandIn) -> None:
        give_up_m = time.monotonic() + 20
        while not server.requests:
            assert time.monotonic() < give_up_m, (self._folder / "log.txt").read_text()
            time.sleep(0.02)

    def close(self) -> None:
        for child in self._all:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def cells(tallies: Iterable[WorkerTally]) -> list[TallyCell]:
    return [cell for tally in tallies for second in tally.seconds for cell in second.cells]


@pytest.fixture
def processes(tmp_path, server):
    processes = Processes(tmp_path, server)
    yield processes
    processes.close()


def test_planned_is_sent_is_counted_at_the_server_and_in_all_that_locust_shows(
    processes, server, tmp_path
):
    web_port = free_port()
    options = ["--autostart", "--web-host", "127.0.0.1", "--web-port", str(web_port)]
    options += ["--processes", "2", "--csv", "stats", "--json-file", "stats"]
    options += ["--master-bind-port", str(processes.port), "--master-port", str(processes.port)]
    options += ["--host", server.url, "--rate", str(RATE), "--seed", "4"]
    options += ["--run-dir", str(processes.run_dir)]
    master = processes.start(*options, DURATION="2")
    processes.wait_for("fleet.end")
    with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/stats/requests") as page:
        shown = json.load(page)
    master.terminate()
    assert master.wait(15) == 0
    schedule = Schedule(constant(RATE), "poisson", 4, 2.0)
    begin_t = processes.history("fleet.go")[0]["begin_t"]
    instants = [begin_t + offset_s for offset_s in schedule.offsets_s()]
    tallies = processes.tallies()
    planned: Counter[int] = Counter()
    for tally in tallies:
        for second in tally.seconds:
            planned[second.second] += second.planned
    sent: Counter[str] = Counter()
    for cell in cells(tallies):
        assert cell.outcome == "ok"
        sent[cell.op] += cell.n
    assert +planned == Counter(map(int, instants))
    assert sent.total() == len(instants) == server.requests["GET"]
    ends = [tally.end["planned"] for tally in tallies]
    assert len(ends) == 2
    assert abs(ends[0] - ends[1]) <= 1
    # Locust's own pages and files, made from what its workers reported to it.
    totals = {row["name"]: row["num_requests"] for row in shown["stats"]}
    assert totals == {**sent, "Aggregated": len(instants)}
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert {row["name"]: row["num_requests"] for row in stats} == dict(sent)
    with (tmp_path / "stats_stats.csv").open() as rows:
        found = {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(rows)}
    assert found == totals
    _, gaps = read_lines(processes.run_dir / "history.jsonl", "history")
    assert not gaps


def test_workers_that_go_are_stated_and_a_frozen_one_sends_nothing_when_it_thaws(processes, server):
    duration_s = 4.0
    master = processes.master("--headless", workers=4, DURATION=str(duration_s))
    killed, frozen, told_to_end, _ = (processes.worker() for _ in range(4))
    begin_t = processes.wait_for("fleet.go")["begin_t"]
    time.sleep(max(0.0, begin_t + 0.7 - time.time()))
    lost_at_t = time.time()
    killed.kill()
    os.kill(frozen.pid, signal.SIGSTOP)
    told_to_end.terminate()
    while len(processes.history("worker.lost")) < 2:
        assert time.time() < lost_at_t + 6
        time.sleep(0.05)
    os.kill(frozen.pid, signal.SIGCONT)
    assert master.wait(15) == 111
    lost = processes.history("worker.lost")
    assert all(lost_at_t < line["t"] < lost_at_t + 4 for line in lost)
    left = processes.history("worker.left")
    assert len(left) == 1
    assert len(processes.history("fleet.end")[0]["workers"]) == 4
    tallies = {tally.worker: tally for tally in processes.tallies()}
    ends = {worker: tally.end for worker, tally in tallies.items()}
    schedule = Schedule(constant(RATE), "poisson", 4, duration_s)
    assert sum(end["planned"] for end in ends.values()) == len(list(schedule.offsets_s()))
    # What a lost one took up last may have been sent, and nothing else.
    unknown = sum(end["in_flight"] for end in ends.values())
    answered = sum(c.n for c in cells(tallies.values()) if c.outcome != "not_sent")
    assert answered <= server.requests["GET"] <= answered + unknown
    for line in (*lost, *left):
        assert ends[line["worker"]]["closed_by"] == "master"
        assert ends[line["worker"]]["not_sent"] > RATE / 4
    assert ends[left[0]["worker"]]["in_flight"] == 0


def test_workers_stop_within_two_seconds_of_losing_their_master(tmp_path):
    with StandIn() as of_killed, StandIn() as of_frozen:
        sides = []
        for name, server in (("killed", of_killed), ("frozen", of_frozen)):
            (tmp_path / name).mkdir()
            side = Processes(tmp_path / name, server)
            sides.append((side, server, side.master("--headless", workers=1), side.worker()))
        try:
            for side, server, _, _ in sides:
                side.wait_for_request(server)
            time.sleep(0.3)
            lost_m = time.monotonic()
            for (_, _, master, _), number in zip(
                sides, (signal.SIGKILL, signal.SIGSTOP), strict=True
            ):
                os.kill(master.pid, number)
            time.sleep(1.0)
            assert all(time.monotonic() - server.last_request_m < 0.5 for _, server, _, _ in sides)
            assert [worker.wait(10) for _, _, _, worker in sides] == [111, 111]
            assert all(server.last_request_m - lost_m < 2.0 for _, server, _, _ in sides)
        finally:
            for side, _, _, _ in sides:
                side.close()
