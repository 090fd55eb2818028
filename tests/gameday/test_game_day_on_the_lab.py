"""The harness against a whole lab: what it leaves behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ExitStatus
from harness.lab import handle
from harness.lab.handle import Running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

PLAN = """
version: 1
name: short
description: One fault, held long enough to be interrupted.
target: {{service: "http://api.fileservice.lab:8080", primary: us-east-1, standby: us-west-2}}
traffic:
  locustfile: locustfiles/mixed.py
  rate: 60/s
  arrivals: poisson
  seed: 7
  mix: {{download: 64, upload: 12, image: 15, list: 6, delete: 3}}
  timeout: 5s
baseline: 4s
faults:
  - name: {fault}
    experiment: {experiment}
    hold: {hold}
    recovery: 10s
cool_down: 5s
objectives:
  - availability: at least 99 %
    in: [baseline]
"""
EXPERIMENTS = {
    "pod": "experiments/pods/kill-file-pods.json",
    "zone": "experiments/zones/lose-us-east-1a.json",
    "region": "experiments/region/lose-us-east-1.json",
}


def healthy(lab: Running) -> bool:
    found = handle.status(lab)
    pods = all(
        n.split("/")[0] == n.split("/")[1] for c in found["pods"].values() for n in c.values()
    )
    targets = all(ok for region in found["targets"].values() for ok in region.values())
    checks = all(check["healthy"] for check in found["health_checks"].values())
    databases = all(v["status"] == "available" for v in found["databases"].values())
    return (
        pods
        and targets
        and checks
        and databases
        and not found["cut_off"]
        and found["recovery"] == "normal"
    )


def until(condition: Callable[[], Any], deadline_s: float, what: str) -> float:
    start = time.monotonic()
    while True:
        # A lab on a busy machine may be slow to say how it is.
        with suppress(TimeoutError):
            if condition():
                return time.monotonic() - start
        if time.monotonic() - start > deadline_s:
            pytest.fail(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.02)


@pytest.fixture
def day(lab: Running, repo: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts ``harness run`` of a short plan; the lab is healthy before and after."""
    until(lambda: healthy(lab), 60, "lab healthy before")
    started: list[subprocess.Popen[str]] = []

    def start(fault: str, hold: str) -> tuple[subprocess.Popen[str], Path]:
        plan = tmp_path / "plan.yaml"
        plan.write_text(PLAN.format(fault=fault, experiment=EXPERIMENTS[fault], hold=hold))
        runs = tmp_path / "runs"
        argv = [
            sys.executable,
            "-m",
            "harness.cli",
            "run",
            str(plan),
            "--runs",
            str(runs),
            "--target",
            str(lab.target_file),
        ]
        process = subprocess.Popen(
            argv, cwd=repo, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process, runs

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
    until(lambda: healthy(lab), 90, "lab healthy after")


def until_cut_off(lab: Running, process: subprocess.Popen[str]) -> None:
    """The day's fault is in place; a day that ended before says why."""

    def is_cut_off() -> bool:
        if process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode}:\n{process.communicate()[0]}")
        return bool(handle.status(lab)["cut_off"])

    until(is_cut_off, 60, "fault in place")


def run_dir(runs: Path) -> Path:
    return next((runs / "short").iterdir())


def kinds(runs: Path) -> list[str]:
    try:
        lines = (run_dir(runs) / "history.jsonl").read_text().splitlines()
    except (FileNotFoundError, StopIteration):
        return []
    return [json.loads(line)["kind"] for line in lines]


def command(*args: str, repo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *args],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("fault", ["zone", "region"])
def test_the_lab_heals_by_itself_when_the_harness_is_killed(
    day: Callable[..., Any], lab: Running, repo: Path, fault: str
) -> None:
    process, runs = day(fault, "60s")
    until_cut_off(lab, process)
    until(lambda: "fault.readback" in kinds(runs), 10, "fault read back")
    os.kill(process.pid, signal.SIGKILL)
    took = until(lambda: not handle.status(lab)["cut_off"], 10, "healed")
    assert took < 3.0
    until(lambda: "undo.readback" in kinds(runs), 5, "undo read back")
    undone = command("recover", str(run_dir(runs)), repo=repo)
    assert undone.returncode == 0
    assert "nothing to undo" in undone.stdout
    assert kinds(runs).count("undo.start") == 1, "recover found nothing to do"
    judged = command("judge", str(run_dir(runs)), repo=repo)
    assert judged.returncode in (ExitStatus.UNKNOWN, ExitStatus.OBJECTIVE_FAILED)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "kill switch"])
def test_what_stops_a_run_has_its_faults_undone_and_is_told(
    day: Callable[..., Any], lab: Running, how: str
) -> None:
    process, runs = day("zone", "60s")
    until_cut_off(lab, process)
    if how == "kill switch":
        (runs / "STOP").touch()
    else:
        process.send_signal(signal.Signals[how])
    took = until(lambda: not handle.status(lab)["cut_off"], 10, "undone")
    assert took < 5.0
    told, _ = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.STOPPED, told
    reason = f"stop condition file {runs / 'STOP'}" if how == "kill switch" else how
    for name in ("report.html", "junit.xml", "summary.md"):
        # Markdown escapes what a path may have.
        assert reason in (run_dir(runs) / name).read_text().replace("\\", ""), name
    assert f"stopped: {reason}" in told


def test_a_pod_day_passes_and_judges_the_same_again(day: Callable[..., Any], repo: Path) -> None:
    process, runs = day("pod", "4s")
    told, _ = process.communicate(timeout=120)
    assert process.returncode == ExitStatus.PASS, told
    folder = run_dir(runs)
    first = {
        name: (folder / name).read_bytes()
        for name in ("verdict.json", "report.html", "junit.xml", "summary.md")
    }
    assert command("judge", str(folder), repo=repo).returncode == ExitStatus.PASS
    assert command("report", str(folder), repo=repo).returncode == ExitStatus.PASS
    assert first == {name: (folder / name).read_bytes() for name in first}
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, f"{path} is readable by others"


@pytest.mark.parametrize("fault", ["pod", "zone", "region"])
def test_chaos_run_alone_leaves_the_lab_healthy(
    lab: Running, repo: Path, tmp_path: Path, fault: str
) -> None:
    import yaml

    environment = yaml.safe_load(lab.target_file.read_text())["environment"]
    until(lambda: healthy(lab), 60, "lab healthy before")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "chaostoolkit",
            "--no-version-check",
            "--log-file",
            str(tmp_path / "log"),
            "run",
            "--journal-path",
            str(tmp_path / "journal.json"),
            str(repo / EXPERIMENTS[fault]),
        ],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={
            **os.environ,
            **environment,
            "HARNESS_TARGET": str(lab.target_file),
            "HARNESS_RUN_DIR": str(tmp_path / "run"),
            "HARNESS_HOLD_S": "12" if fault == "region" else "4",
        },
    )
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert (ran.returncode, journal["status"], journal["deviated"]) == (0, "completed", False), (
        ran.stdout + ran.stderr
    )
    assert [r["status"] for r in journal["rollbacks"]] == ["succeeded"] * len(journal["rollbacks"])
    until(lambda: healthy(lab), 60, "lab healthy after")


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (("load", "--duration", "12s"), "load"),
        (
            ("experiment", EXPERIMENTS["pod"], "--hold", "4s", "--recovery", "10s"),
            "kill-file-pods",
        ),
    ],
)
def test_ad_hoc_verbs_run_and_judge(
    lab: Running, repo: Path, tmp_path: Path, verb: tuple[str, ...], name: str
) -> None:
    until(lambda: healthy(lab), 60, "lab healthy before")
    options = ("--rate", "60", "--target", str(lab.target_file), "--runs", str(tmp_path))
    told = command(*verb, *options, repo=repo)
    assert told.returncode == ExitStatus.PASS, told.stdout + told.stderr
    assert (next((tmp_path / name).iterdir()) / "report.html").is_file()
