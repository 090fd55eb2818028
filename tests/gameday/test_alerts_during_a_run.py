"""A run whose plan asks about alerts listens for them from before its first phase to its end.

Everything else of a run is a stand-in here: no target, no traffic, no faults.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from harness import conductor
from harness.clock import SystemClock
from harness.conductor import Conductor
from harness.errors import Refused
from harness.evidence.deliveries import deliveries
from harness.evidence.lines import read_lines
from harness.plan.model import Phase, Plan
from harness.plan.reader import parse_plan
from harness.target.model import AlertReceivers, Target
from harness.target.reader import read_target, write_target
from tests.verdict.build import PLAN, REPO

TOKEN = "0123456789abcdef"
ALERT = {"alertname": "ServiceDown", "zone": "us-east-1a"}


class Quiet:
    """Stands for progress, the traffic and the watchdog alike: whatever is asked, nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class Telling(Quiet):
    """Progress that delivers an alert when the baseline begins."""

    def __init__(self, described: AlertReceivers) -> None:
        self.described = described
        self.status = 0

    def phase(self, phase: Phase, index: int, count: int) -> None:
        alert = {"status": "firing", "labels": ALERT}
        body = json.dumps({"version": "4", "alerts": [alert]})
        host, _, port = str(self.described.http).rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("POST", f"/{TOKEN}/audit", body)
        self.status = connection.getresponse().status
        connection.close()


def plan(objective: str) -> Plan:
    text = PLAN[: PLAN.index("faults:")].replace("baseline: 40s", "baseline: 300ms")
    return parse_plan(f"{text}objectives:\n  - {objective}\n", REPO / "small.yaml")


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    for name in ("LoadDriver", "start_watchdog", "read_back", "fetch_series"):
        monkeypatch.setattr(conductor, name, lambda *args, **kwargs: Quiet())
    monkeypatch.setattr(conductor, "settled", lambda *args: [])
    monkeypatch.setattr(conductor, "expected", lambda target: {})
    monkeypatch.setattr(conductor, "observers", lambda target: [])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    described = AlertReceivers(TOKEN, {"audit": "webhook"}, http=f"127.0.0.1:{port}")
    sample = read_target(REPO / "docs" / "target-example.yaml")
    return dataclasses.replace(sample, alert_receivers=described, simulated=True, time_scale=10.0)


def run(given: Plan, target: Target, folder: Path) -> tuple[Telling, list[dict[str, Any]]]:
    assert target.alert_receivers is not None
    told = Telling(target.alert_receivers)
    target_file = folder / "target.yaml"
    write_target(target, target_file)
    Conductor(
        given, target, target_file=target_file, run_dir=folder, clock=SystemClock(), progress=told
    ).run()
    events, gaps = read_lines(folder / "history.jsonl", "history.jsonl")
    assert not gaps
    assert [d.labels for d in deliveries(events)] == [ALERT]
    return told, [{"kind": e.kind, "source": e.source, **e.data} for e in events]


def test_what_arrives_in_a_phase_is_on_record_and_the_receiver_was_seen_to_listen(
    target: Target, tmp_path: Path
) -> None:
    told, events = run(plan("alerts: no other"), target, tmp_path)
    assert told.status == 200
    start = next(e for e in events if e["kind"] == "run.start")
    assert (start["receivers"], start["observers"]) == (["audit"], ["receivers"])
    seen = [e for e in events if e["kind"] == "sighting"]
    assert [(e["subject"], e["value"]) for e in seen] == [("receiver:audit", "listening")]
    assert TOKEN not in (tmp_path / "history.jsonl").read_text()
    assert TOKEN not in (tmp_path / "plan.json").read_text()
    assert target.alert_receivers is not None
    host, _, port = str(target.alert_receivers.http).rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


def test_a_plan_that_asks_nothing_of_alerts_listens_to_none(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ConnectionRefusedError):
        run(plan("availability: at least 99 %\n    in: [baseline]"), target, tmp_path)


def test_a_run_that_cannot_listen_is_refused_before_anything_is_touched(
    target: Target, tmp_path: Path
) -> None:
    assert target.alert_receivers is not None
    host, _, port = str(target.alert_receivers.http).rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(Refused, match="cannot listen"):
        run(plan("alerts: no other"), target, tmp_path)
    assert not (tmp_path / "history.jsonl").exists()
