"""A run is measured from outside, and one that comes to nothing is no result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.bench.children import spawn
from tests.bench.contestants import OURS, REPO, STOCK, Declared, Job, Said, Tasks
from tests.bench.runs import BenchError, measure
from tests.bench.served import Served

CORES = os.sched_getaffinity(0)


@pytest.mark.parametrize("contestant", [*OURS[1:], STOCK[0]], ids=lambda c: c.name)
def test_a_run_is_counted_at_both_ends_and_every_answer_is_checked(contestant, tmp_path) -> None:
    with Served(short_by=1) as target:
        job = Job("small", target.url, tmp_path, 0.0, connections=1)
        sample = measure(target, contestant, job, cores=CORES, settle_s=0.1, window_s=0.3)
    said = sample.said
    assert said.requests is not None
    assert sample.requests == target.requests >= 50
    assert sample.disagreement() == ""
    assert 0 < sample.window_requests < sample.requests
    assert sample.rate == pytest.approx(sample.window_requests / 0.3, rel=0.5)
    assert 0 <= sample.kernel_us <= sample.cpu_us
    assert sample.peak_mib > 10
    # Every odd one was short; the one cut off in the end is perhaps not counted.
    assert abs(said.failures - said.requests / 2) <= 1
    if isinstance(contestant, Declared):
        assert sample.requests == said.requests == said.more["locust_requests"]
    if isinstance(contestant, Tasks) or contestant.listen:
        assert said.more["events"] == said.requests
        assert said.more["wrong"] == said.failures


def test_a_contestant_gives_way_by_as_much_as_is_said(tmp_path) -> None:
    told = tmp_path / "told"
    with told.open("w") as output:
        spawn(
            [sys.executable, "-c", "import os; print(os.nice(0))"], {}, CORES, output, nice=3
        ).wait()
    assert int(told.read_text()) == os.nice(0) + 3


@dataclass(frozen=True)
class Script:
    """A contestant that is a line of Python."""

    text: str
    name: str = "script"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return True

    def commands(self, job: Job):
        return [([sys.executable, "-c", self.text, job.url], {})]

    def said(self, job: Job, output: str) -> Said:
        return Said(int(output))


GET = """
import http.client, sys, time
c = http.client.HTTPConnection(sys.argv[1].partition('//')[2])
end = time.monotonic() + 0.6
n = 0
while time.monotonic() < end:
    c.request('GET', '/'); c.getresponse().read(); n += 1
print(n + EXTRA)
"""


def run(target: Served, script: str, folder: Path, window_s: float = 0.2):
    job = Job("small", target.url, folder, 1.0)
    return measure(target, Script(script), job, cores=CORES, settle_s=0.0, window_s=window_s)


def test_a_contestant_that_counts_otherwise_is_found_out(tmp_path) -> None:
    with Served() as target:
        assert run(target, GET.replace("EXTRA", "0"), tmp_path).disagreement() == ""
    with Served() as target:
        sample = run(target, GET.replace("EXTRA", "1"), tmp_path)
        assert (
            sample.disagreement() == f"counted {sample.requests + 1}, the target {sample.requests}"
        )


def test_what_the_run_before_left_is_not_counted(tmp_path) -> None:
    with Served() as target:
        script = GET.replace("EXTRA", "0")
        argv = [sys.executable, "-c", script, target.url]
        before = subprocess.Popen(argv, stdout=subprocess.PIPE)
        while not target.requests:
            time.sleep(0.01)
        sample = run(target, script, tmp_path)
        said, _ = before.communicate(timeout=10)
    assert sample.disagreement() == ""
    assert target.requests == sample.requests + int(said)


@pytest.mark.parametrize(
    ("script", "window_s", "why"),
    [
        ("raise SystemExit('no such option')", 0.2, r"(?s)not ready.*no such option"),
        (GET.replace("EXTRA", "0"), 1.0, "ended in the window"),
        (GET.replace("EXTRA", "'x'"), 0.2, "says nothing of itself"),
    ],
)
def test_a_run_that_comes_to_nothing_says_why(script, window_s, why, tmp_path) -> None:
    with Served() as target, pytest.raises(BenchError, match=why):
        run(target, script, tmp_path, window_s)


PARENT = """
import subprocess, sys, time
from tests.bench.children import spawn
child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], {}, {int(sys.argv[1])})
print(child.pid, flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_bench_that_is_killed() -> None:
    bench = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(min(CORES))],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bench.stdout is not None
    child = int(bench.stdout.readline())
    assert os.sched_getaffinity(child) == {min(CORES)}
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    give_up = time.monotonic() + 10
    while _is_alive(child):
        assert time.monotonic() < give_up, "it outlived the bench"
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
