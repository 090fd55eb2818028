"""What the harness itself costs, as ratios within one run: ``make bench``.

Two figures a user pays for. The load generator's CPU per request beside stock
Locust's, both against the same local server, in turns, so that a noisy machine
disturbs both alike. And how long judging takes beside how long the judged run took.
Prints a table; writes nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))

from tests.load.server import StandIn  # noqa: E402

RATE, SECONDS, ROUNDS = 200, 8, 3
STOCK = """
from locust import FastHttpUser, constant_throughput, task
class Stock(FastHttpUser):
    wait_time = constant_throughput({per_user})
    @task
    def health(self):
        self.client.get("/health")
"""


def cpu_s(argv: list[str], environment: dict[str, str]) -> float:
    """User and system seconds of one command with all its children."""
    before = os.times()
    subprocess.run(
        argv,
        cwd=REPO,
        env={**os.environ, **environment},
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def locust(file: Path, url: str, users: int, environment: dict[str, str]) -> float:
    return cpu_s(
        [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(file),
            "--headless",
            "--only-summary",
            "--host",
            url,
            "-u",
            str(users),
            "-r",
            str(users),
            "-t",
            f"{SECONDS}s",
        ],
        environment,
    )


def generator(folder: Path) -> dict[str, float]:
    """CPU µs per planned request of both, and the median of the paired ratios."""
    stock_file = folder / "stock.py"
    stock_file.write_text(STOCK.format(per_user=RATE / 20))
    idle_file = folder / "idle.py"
    idle_file.write_text(STOCK.format(per_user=0.001))
    ours, stock, ratios = [], [], []
    with StandIn() as server:
        for _ in range(ROUNDS):
            start_up = locust(idle_file, server.url, 1, {})
            a = locust(REPO / "locustfiles/download.py", server.url, 1, {"RATE": str(RATE)})
            b = locust(stock_file, server.url, 20, {})
            a, b = max(a - start_up, 1e-6), max(b - start_up, 1e-6)
            ours.append(a / (RATE * SECONDS) * 1e6)
            stock.append(b / (RATE * SECONDS) * 1e6)
            ratios.append(a / b)
    return {
        "ours_us": statistics.median(ours),
        "stock_us": statistics.median(stock),
        "ratio": statistics.median(ratios),
    }


def judging() -> dict[str, float]:
    """Seconds to read and judge the recorded run, beside how long it lasted."""
    from harness.evidence.run import read_run
    from harness.plan.model import Plan
    from harness.verdict import judge

    run = REPO / "tests/runs/lab-passes"
    plan = Plan.from_json(json.loads((run / "plan.json").read_bytes()))
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        judge(plan, read_run(run))
        took.append(time.perf_counter() - start)
    return {
        "judge_s": statistics.median(took),
        "run_s": plan.duration_s,
        "ratio": statistics.median(took) / plan.duration_s,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        load = generator(Path(folder))
    verdict = judging()
    print("| what | ours | beside | ratio |")
    print("|---|---|---|---|")
    print(
        f"| generator, CPU per request at {RATE}/s | {load['ours_us']:.0f} µs, files verified "
        f"| stock FastHttpUser, GET only: {load['stock_us']:.0f} µs | {load['ratio']:.2f} |"
    )
    print(
        f"| judging a run | {verdict['judge_s']:.2f} s | the run: {verdict['run_s']:.0f} s "
        f"| {verdict['ratio']:.4f} |"
    )


if __name__ == "__main__":
    main()
