"""Prometheus sees what the load balancer does, and its alerts reach somebody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
from parts_support import LAYOUT, Backend

from harness.clock import SystemClock
from harness.evidence.deliveries import fingerprint
from harness.lab import binaries
from harness.lab.envoy import Envoy
from harness.lab.layout import RECEIVERS
from harness.lab.part import poll_until
from harness.lab.prometheus import Alertmanager, Delivery, Prometheus
from harness.lab.rules import as_yaml, rules
from harness.target.model import AlertReceivers
from harness.watch.receivers import Receivers

CRITICAL = ("ServiceErrorRateHigh", "RegionDown")
TOKEN = "0123456789abcdef"
HTTP, SMTP = f"{LAYOUT.receivers}:9095", f"{LAYOUT.receivers}:2525"


def launch_parts(parts, folder) -> tuple[Prometheus, Alertmanager | None, list[Envoy], Backend]:
    backend = Backend(LAYOUT.pod_ips("us-east-1a")[4], 8080, folder / "backend.log")
    envoys = [
        Envoy(name, LAYOUT.lb(name), 8080, 9901, folder / name, folder / f"{name}.log")
        for name in ("us-east-1", "us-west-2")
    ]
    manager = None
    if Alertmanager.available():
        manager = Alertmanager(
            LAYOUT.alertmanager,
            9093,
            folder / "am",
            folder / "am.log",
            Delivery(HTTP, SMTP, TOKEN),
        )
    prometheus = Prometheus(
        LAYOUT.prometheus,
        9090,
        folder / "prom",
        folder / "prom.log",
        time_scale=30.0,
        alertmanager=manager.listeners[0] if manager else None,
    )
    parts += [backend, *envoys, prometheus, *([manager] if manager else [])]
    return prometheus, manager, envoys, backend


def receive(folder: Path) -> Receivers:
    """The receivers of the lab's configuration, as a run has them."""
    described = AlertReceivers(TOKEN, dict(RECEIVERS), http=HTTP, smtp=SMTP)
    receivers = Receivers(described, folder, SystemClock())
    receivers.start()
    return receivers


def deliveries(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] != "receiver.start"]


async def send_errors(envoy: Envoy, rate: float) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://{envoy.host}:{envoy.port}/bad"):
                pass
            await asyncio.sleep(1 / rate)


def test_errors_at_the_load_balancer_become_an_alert_that_is_delivered(parts, tmp_path):
    async def scenario() -> None:
        prometheus, manager, envoys, backend = launch_parts(parts, tmp_path)
        receivers = receive(tmp_path)
        for part in parts:
            await part.start()
        for envoy in envoys:
            envoy.set_endpoints([(*backend.address, "us-east-1a")])
        for part in parts:
            await part.ready()
        labels = [{"region": e.region} for e in envoys]
        prometheus.set_targets(
            "envoy", [(e.host, e.admin_port, ls) for e, ls in zip(envoys, labels, strict=True)]
        )
        gone = {"region": "us-east-1", "zone": "us-east-1a", "app": "file", "pod": "file-1"}
        prometheus.set_targets("services", [("127.103.10.77", 8080, gone)])
        busy = asyncio.create_task(send_errors(envoys[0], 20))
        quiet = asyncio.create_task(send_errors(envoys[1], 0.5))

        async def firing(name: str, **matching: str) -> bool:
            want = ",".join(f'{k}="{v}"' for k, v in matching.items())
            expr = f'ALERTS{{alertname="{name}",alertstate="firing",{want}}}'
            return bool(await prometheus.query(expr))

        assert await poll_until(
            lambda: firing("ServiceErrorRateHigh", region="us-east-1"), deadline_s=15, poll_s=0.2
        )
        assert await poll_until(lambda: firing("ServiceDown", app="file"), deadline_s=5)
        assert await poll_until(lambda: firing("TargetDown", pod="file-1"), deadline_s=5)

        async def all_fail_there() -> bool:
            west = await prometheus.query('region:http_errors:ratio_rate5s{region="us-west-2"}')
            return bool(west) and float(west[0]["value"][1]) == 1.0

        assert await poll_until(all_fail_there, deadline_s=10, poll_s=0.2)
        assert not await firing("ServiceErrorRateHigh", region="us-west-2"), (
            "too little traffic to tell"
        )
        assert not await firing("RegionDown", region="us-east-1")
        assert not await prometheus.query('ALERTS{alertname="ServiceLatencyHigh"}')

        backend.kill()
        assert await poll_until(
            lambda: firing("RegionDown", region="us-east-1"), deadline_s=10, poll_s=0.2
        )
        if manager is not None:
            # What is critical goes to all four, each told in its own way.
            wanted = {(name, alert) for name in RECEIVERS for alert in CRITICAL}

            async def delivered() -> bool:
                told = deliveries(tmp_path)
                return wanted <= {(t["receiver"], t["labels"]["alertname"]) for t in told}

            assert await poll_until(delivered, deadline_s=10, poll_s=0.2), deliveries(tmp_path)
            for told in deliveries(tmp_path):
                assert told["kind"] == "alert.delivery", told
                assert told["fingerprint"] == fingerprint(told["labels"])
                by = "labels" if told["receiver"] == "pagerduty" else "fingerprint"
                assert told["known_by"] == by
            held = {a["labels"]["alertname"] for a in await manager.alerts()}
            assert "RegionDown" in held
        for task in (busy, quiet):
            task.cancel()
        await asyncio.gather(busy, quiet, return_exceptions=True)
        for part in parts:
            await part.stop()
        receivers.close()

    asyncio.run(scenario())


def test_the_checked_in_rule_file_is_what_the_source_says():
    from pathlib import Path

    import harness

    file = Path(harness.__file__).parents[1] / "dashboards" / "rules" / "service.yaml"
    assert file.read_text() == as_yaml(), "run: make rules, or see the file's first line"


def test_every_alert_has_a_severity_a_hold_and_a_text_and_the_time_scale_shortens_it():
    def holds(time_scale: float) -> list[int]:
        alerts = [r for r in rules(time_scale=time_scale)["groups"][1]["rules"] if "alert" in r]
        assert {a["labels"]["severity"] for a in alerts} == {"critical", "warning"}
        assert all(a["annotations"]["summary"] for a in alerts)
        return [int(a["for"].removesuffix("s")) for a in alerts]

    assert all(long == 10 * short for long, short in zip(holds(1), holds(10), strict=True))


def test_of_alerts_that_are_never_delivered_the_receivers_are_there_and_go_nowhere(tmp_path):
    delivery = Delivery(HTTP, SMTP, TOKEN)
    for delivers in (True, False):
        at = (LAYOUT.alertmanager, 9093, tmp_path, tmp_path / "log", delivery, delivers)
        config = Alertmanager(*at).config()
        assert [r["name"] for r in config["receivers"]] == list(RECEIVERS)
        assert all((len(r) == 2) == delivers for r in config["receivers"])


def test_alertmanager_is_either_had_or_said_to_be_missing():
    program = binaries.alertmanager()
    assert Alertmanager.available() == (program is not None)
