"""Stock ``chaos run`` as a subprocess: what it leaves behind, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.chaos.driver import ChaosDriver, ExperimentResult
from harness.chaos.recover import recover
from harness.chaos.undo import HISTORY_NAME, UndoReport, open_records
from harness.chaos.watchdog import WatchdogHandle, start_watchdog

from .conftest import Cloud

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted(ROOT.glob("experiments/*/*.json"))


class Service:
    """The service under test: answers health requests with ``status``."""

    def __init__(self) -> None:
        service = self
        self.status = 200

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(service.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.107.1.1", 0), Handler)
        self.url = f"http://127.107.1.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def service(cloud: Cloud) -> Iterator[Service]:
    service = Service()
    text = cloud.target_file.read_text().replace("http://127.107.1.1:8080", service.url)
    cloud.target_file.write_text(text)
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def watchdog(run_dir: Path, cloud: Cloud) -> Iterator[WatchdogHandle]:
    handle = start_watchdog(run_dir, [os.getpid()], target_file=cloud.target_file)
    yield handle
    handle.close()


def zone_experiment(folder: Path) -> Path:
    """The repository's zone experiment without the probes that need three clusters."""
    experiment = json.loads((ROOT / "experiments/zones/lose-us-east-1a.json").read_text())
    hypothesis = experiment["steady-state-hypothesis"]
    hypothesis["probes"] = [
        p for p in hypothesis["probes"] if p["provider"]["func"] == "service_answers"
    ]
    assert hypothesis["probes"]
    path = folder / "zone.json"
    path.write_text(json.dumps(experiment))
    return path


def start(driver: ChaosDriver, run_dir: Path, cloud: Cloud, hold_s: float) -> None:
    driver.start(
        run_dir,
        experiment=zone_experiment(run_dir.parent),
        fault="zone",
        hold_s=hold_s,
        target_file=cloud.target_file,
        env={},
    )


def lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / HISTORY_NAME).read_text().splitlines()]


def kinds(run_dir: Path) -> list[str]:
    return [line["kind"] for line in lines(run_dir) if line["kind"] != "source.end"]


def until_made(run_dir: Path) -> None:
    deadline = time.monotonic() + 30
    while not (run_dir / HISTORY_NAME).exists() or "fault.readback" not in kinds(run_dir):
        assert time.monotonic() < deadline, "the fault was not made"
        time.sleep(0.05)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_is_valid(path: Path) -> None:
    from chaoslib.experiment import ensure_experiment_is_valid

    experiment = json.loads(path.read_text())
    ensure_experiment_is_valid(experiment)
    assert experiment["runtime"]["rollbacks"] == {"strategy": "always"}
    assert experiment["runtime"]["hypothesis"] == {"strategy": "default"}
    assert experiment["rollbacks"][0]["provider"]["func"] == "undo_all"


def test_there_is_an_experiment_of_each_kind() -> None:
    assert {p.parent.name for p in EXPERIMENTS} >= {"pods", "zones", "region"}


def test_an_experiment_is_run_to_its_end_and_told_whole(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=0.1)
    result = driver.wait(60)
    assert (result.outcome, result.exit_code) == ("passed", 0), result
    assert result.undo == UndoReport()
    assert cloud.healthy()
    assert kinds(run_dir) == [
        "experiment.start",
        "fault.start",
        "fault.made",
        "fault.readback",
        "undo.start",
        "undo.done",
        "undo.readback",
        "experiment.end",
    ]
    ends = {e["source"]: e["count"] for e in lines(run_dir) if e["kind"] == "source.end"}
    assert ends == {"chaos/zone": 6, "chaos-driver/zone": 2}
    assert watchdog.alive()
    assert all(p.stat().st_mode & 0o077 == 0 for p in run_dir.rglob("*") if p.is_file())


def test_stop_undoes_at_once_and_says_interrupted(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=60)
    until_made(run_dir)
    asked_t = time.time()
    result = driver.stop("the user said so")
    undo_t = next(e["t"] for e in lines(run_dir) if e["kind"] == "undo.start")
    assert undo_t - asked_t < 0.5
    assert result.outcome == "interrupted" and "the user said so" in result.because
    assert cloud.healthy() and open_records(run_dir) == []
    assert kinds(run_dir).count("undo.start") == 1
    assert driver.poll() == result


def test_kill_9_of_chaos_toolkit_is_undone_and_says_aborted(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=60)
    until_made(run_dir)
    assert driver._process is not None
    driver._process.kill()
    result = driver.wait(30)
    assert (result.outcome, result.exit_code) == ("aborted", -9)
    assert cloud.healthy() and recover(run_dir) == UndoReport()
    assert kinds(run_dir).count("undo.start") == 1


def test_a_service_that_is_down_beforehand_is_not_broken_further(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    service.status = 503
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=0.1)
    result = driver.wait(60)
    assert (result.outcome, result.exit_code) == ("baseline-not-met", 0), result
    assert cloud.acl_count() == 1 and "fault.start" not in kinds(run_dir)


def test_a_refused_fault_is_a_failed_experiment_whatever_the_exit_status(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    subnet = cloud.subnets["us-east-1a"]
    cloud.ec2.delete_tags(Resources=[subnet], Tags=[{"Key": "chaos"}])
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=0.1)
    result: ExperimentResult = driver.wait(60)
    assert result.outcome == "failed" and "lacks the tag" in result.because
    assert cloud.acl_count() == 1


def test_an_experiment_that_never_ends_is_stopped(
    cloud: Cloud, service: Service, watchdog: WatchdogHandle, run_dir: Path
) -> None:
    driver = ChaosDriver()
    start(driver, run_dir, cloud, hold_s=60)
    until_made(run_dir)
    result = driver.wait(0.0)
    assert result.outcome == "interrupted" and "not done within" in result.because
    assert cloud.healthy()


def test_plain_chaos_run_works_alone_and_leaves_nothing(
    cloud: Cloud, service: Service, tmp_path: Path
) -> None:
    experiment = zone_experiment(tmp_path)
    (tmp_path / ".lab").mkdir()
    cloud.target_file.rename(tmp_path / ".lab/target.yaml")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    environment |= {"HARNESS_HOLD_S": "0.1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "chaostoolkit", "--no-version-check", "run", str(experiment)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (run_dir,) = (tmp_path / "runs/adhoc").iterdir()
    assert cloud.healthy() and open_records(run_dir) == []
    journal = json.loads((tmp_path / "journal.json").read_text())
    assert "waited_s" in journal["rollbacks"][1]["output"]
    assert kinds(run_dir)[:3] == ["fault.start", "fault.made", "fault.readback"]
