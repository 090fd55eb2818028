"""Plain Locust tasks on an open schedule, in a Locust of their own (it patches the process)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .server import StandIn

ROOT = Path(__file__).resolve().parents[2]
SHOP = """
from locust import task
from harness.load.open_tasks import OpenHarnessUser

class Shopper(OpenHarnessUser):
    def on_start(self):
        token = self.client.post("/v1/token", json={}, name="start").json()["token"]
        self.bearer = {"Authorization": f"Bearer {token}"}

    @task(8)
    def browse(self):
        self.client.get("/v1/files?limit=1", name="one", headers=self.bearer)
        self.client.get("/v1/files?limit=1", name="another", headers=self.bearer)

    @task
    def broken(self):
        self.client.get("/nowhere", name="nowhere", headers=self.bearer)

    @task
    def mistaken(self):
        raise KeyError("on purpose")
"""
NESTED = """
from locust import TaskSet, task
from harness.load.open_tasks import OpenHarnessUser

class Steps(TaskSet):
    @task
    def one(self):
        self.client.get("/")

class Nested(OpenHarnessUser):
    tasks = [Steps]
"""


@pytest.fixture
def server():
    with StandIn() as running:
        yield running


def locust(folder: Path, source: str, url: str, *more: str) -> subprocess.CompletedProcess[bytes]:
    file = folder / "shop.py"
    file.write_text(source)
    argv = [sys.executable, "-m", "locust", "-f", str(file), "--host", url, "--headless"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    return subprocess.run(
        [*argv, "--only-summary", "-t", "2s", *more],
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT), "DURATION": "1.5"},
        capture_output=True,
        timeout=40,
        check=False,
    )


def test_tasks_begin_when_they_are_due_and_are_counted_from_then_on(tmp_path, server):
    # Each request takes far longer than the time between two arrivals: one user who waits for
    # each would begin three tasks.
    server.faults.delay_s = 0.25
    report, run_dir = tmp_path / "report", tmp_path / "run"
    done = locust(
        *(tmp_path, SHOP, server.url, "--rate", "40", "--arrivals", "even"),
        *("--run-dir", str(run_dir), "--json-file", str(report)),
    )
    lines = [json.loads(line) for line in (run_dir / "tallies" / "w0.jsonl").open()]
    outcomes: Counter[tuple[str, str, str]] = Counter()
    for line in lines:
        for second in line.get("seconds", {}).values():
            for cell in second["cells"]:
                outcomes[cell["op"], cell["outcome"], cell["error"]] += cell["n"]
    (end,) = [line for line in lines if line["kind"] == "tally.end"] or [done.stderr.decode()]
    assert end["planned"] == end["sent"] == sum(outcomes.values()) == 60
    assert set(outcomes) == {
        ("browse", "ok", ""),
        ("broken", "failed", "status-404"),
        ("mistaken", "failed", "exception-KeyError"),
    }
    # Locust shows the requests, and the service has seen as many.
    entries = {e["name"]: e["num_requests"] for e in json.loads(Path(f"{report}.json").read_text())}
    browsed = outcomes["browse", "ok", ""]
    assert entries["one"] == entries["another"] == browsed
    assert entries["nowhere"] == outcomes["broken", "failed", "status-404"]
    # Those who were free again were used again.
    assert entries["start"] < 60
    assert server.requests.total() == sum(entries.values())


def test_tasks_that_follow_each_other_are_refused(tmp_path, server):
    done = locust(tmp_path, NESTED, server.url, "--rate", "10")
    assert done.returncode == 104
    assert b"Steps is a TaskSet" in done.stderr
    assert server.requests.total() == 0
