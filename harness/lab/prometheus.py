"""Real Prometheus and Alertmanager of the lab: the side of the evidence that clients cannot see."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.errors import LabError
from harness.lab import binaries, envoy, layout, proc
from harness.lab.part import Part, http_get, write_atomically
from harness.lab.rules import rules

#: ``(host, port, labels)``
Target = tuple[str, int, Mapping[str, str]]


@dataclass(frozen=True)
class Job:
    """A kind of target and how it is scraped."""

    name: str
    path: str = "/metrics"
    params: Mapping[str, list[str]] = field(default_factory=dict)


JOBS: tuple[Job, ...] = (
    Job("services"),
    Job("envoy", path=envoy.METRICS_PATH, params={"filter": [envoy.METRICS_FILTER]}),
    Job("store"),
    Job("edge"),
    Job("checks"),
)
_RULES_WINDOW_S = 5


class Prometheus(Part):
    """Prometheus at ``host:port``, everything below ``data_dir``.

    ``time_scale`` divides how long an alert's condition must hold; ``alertmanager`` is the
    address alerts are sent to, if any.
    """

    def __init__(
        self,
        host: str,
        port: int,
        data_dir: Path,
        log: Path,
        *,
        jobs: Sequence[Job] = JOBS,
        scrape_interval_s: float = 1.0,
        time_scale: float = 10.0,
        alertmanager: tuple[str, int] | None = None,
    ) -> None:
        super().__init__("prometheus", [(host, port)], log)
        self.host = host
        self.port = port
        self.data_dir = data_dir.absolute()
        self.jobs = {job.name: job for job in jobs}
        self._interval = f"{round(scrape_interval_s * 1000)}ms"
        self._time_scale = time_scale
        self._alertmanager = alertmanager

    @property
    def url(self) -> str:
        """Base URL of its HTTP API."""
        return f"http://{self.host}:{self.port}"

    def set_targets(self, job: str, targets: Sequence[Target]) -> None:
        """Scrape these for ``job`` from now on; may be called before :meth:`start`."""
        if job not in self.jobs:
            raise KeyError(f"no scrape job {job!r}; there are {', '.join(self.jobs)}")
        groups = [{"targets": [f"{host}:{port}"], "labels": dict(ls)} for host, port, ls in targets]
        write_atomically(self._targets_file(job), json.dumps(groups))

    async def query(self, expr: str, timeout_s: float = 2.0) -> list[dict[str, Any]]:
        """Result of an instant query: ``[{"metric": {…}, "value": [t, "v"]}]``."""
        path = f"/api/v1/query?query={quote(expr)}"
        status, body = await http_get(self.host, self.port, path, timeout_s=timeout_s)
        answer = json.loads(body)
        if status != 200 or answer["status"] != "success":
            raise LabError(f"Prometheus refused {expr!r}: {answer.get('error', status)}")
        return list(answer["data"]["result"])

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = binaries.prometheus()
        self._write_files()
        argv = [
            str(program.path),
            f"--config.file={self.data_dir / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data_dir / 'tsdb'}",
            "--storage.tsdb.retention.time=6h",
            f"--web.listen-address={self.host}:{self.port}",
            "--log.level=warn",
        ]
        if program.assets:
            argv.append(f"--web.local-assets={program.assets}/")
        return proc.spawn(argv, log=self.log, env={"GOMAXPROCS": "1", "GOMEMLIMIT": "192MiB"})

    async def _is_ready(self) -> bool:
        status, _ = await http_get(self.host, self.port, "/-/ready", timeout_s=1.0)
        return status == 200

    def _targets_file(self, job: str) -> Path:
        return self.data_dir / "targets" / f"{job}.json"

    def _write_files(self) -> None:
        for job in self.jobs:
            if not self._targets_file(job).exists():
                self.set_targets(job, [])
        # JSON is YAML.
        rule_file = rules(time_scale=self._time_scale, window_s=_RULES_WINDOW_S)
        write_atomically(self.data_dir / "rules" / "service.yaml", json.dumps(rule_file, indent=1))
        write_atomically(self.data_dir / "prometheus.yml", json.dumps(self.config(), indent=1))

    def config(self) -> dict[str, Any]:
        """The configuration file as plain values."""
        config: dict[str, Any] = {
            "global": {
                "scrape_interval": self._interval,
                "scrape_timeout": self._interval,
                "evaluation_interval": self._interval,
            },
            "rule_files": [str(self.data_dir / "rules" / "*.yaml")],
            "scrape_configs": [self._scrape(job) for job in self.jobs.values()],
        }
        if self._alertmanager:
            host, port = self._alertmanager
            targets = [{"targets": [f"{host}:{port}"]}]
            manager = {"static_configs": targets, "api_version": "v2", "timeout": "2s"}
            config["alerting"] = {"alertmanagers": [manager]}
        return config

    def _scrape(self, job: Job) -> dict[str, Any]:
        return {
            "job_name": job.name,
            "metrics_path": job.path,
            "params": {name: list(values) for name, values in job.params.items()},
            # Pods say region, zone and pod themselves, like the target's own labels.
            "honor_labels": True,
            "file_sd_configs": [
                {"files": [str(self._targets_file(job.name))], "refresh_interval": "5s"}
            ],
        }


@dataclass(frozen=True)
class Delivery:
    """Where Alertmanager delivers: ``http`` and ``smtp`` are ``host:port``; the receiver ``name``
    is at ``http://<http>/<token>/<name>`` or ``<name>+<token>@…``."""

    http: str
    smtp: str
    token: str


#: One line per alert that says which it is; docs/alerts.md.
TRACE = (
    "{{ range .Alerts }}{{ .Status }} {{ .Fingerprint }}"
    '{{ range .Labels.SortedPairs }} {{ .Name }}={{ printf "%q" .Value }}{{ end }}\n{{ end }}'
)


class Alertmanager(Part):
    """Alertmanager at ``host:port``; alerts go to the receivers of ``delivery`` when given.

    ``delivers`` False is a seeded defect: alerts are taken and nobody is told. Where
    :func:`harness.lab.binaries.alertmanager` is None the lab runs without one.
    """

    def __init__(
        self,
        host: str,
        port: int,
        data_dir: Path,
        log: Path,
        delivery: Delivery | None = None,
        delivers: bool = True,
    ) -> None:
        super().__init__("alertmanager", [(host, port)], log)
        self.host = host
        self.port = port
        self.data_dir = data_dir.absolute()
        self._delivery = delivery if delivers else None

    @staticmethod
    def available() -> bool:
        """Can Alertmanager be had on this system? (May download it on first use.)"""
        return binaries.alertmanager() is not None

    async def alerts(self, timeout_s: float = 2.0) -> list[dict[str, Any]]:
        """The alerts it holds, in the shape of its API (``labels``, ``status``, ``startsAt``…)."""
        path = "/api/v2/alerts"
        _, body = await http_get(self.host, self.port, path, timeout_s=timeout_s)
        return list(json.loads(body))

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = binaries.alertmanager()
        if program is None:
            raise LabError(
                "Alertmanager is neither installed nor to be had from an apt archive",
                hint="the lab runs without it; or put alertmanager on PATH",
            )
        config = self.data_dir / "alertmanager.yml"
        write_atomically(config, json.dumps(self.config(), indent=1))
        argv = [
            str(program.path),
            f"--config.file={config}",
            f"--storage.path={config.parent / 'data'}",
            f"--web.listen-address={self.host}:{self.port}",
            # Empty: no gossip with other instances, no port on all interfaces.
            "--cluster.listen-address=",
            "--log.level=warn",
        ]
        env = {"GOMAXPROCS": "1", "GOMEMLIMIT": "64MiB"}
        return proc.spawn(argv, log=self.log.absolute(), cwd=program.cwd, env=env)

    async def _is_ready(self) -> bool:
        status, _ = await http_get(self.host, self.port, "/-/ready", timeout_s=1.0)
        return status == 200

    def config(self) -> dict[str, Any]:
        """The configuration file as plain values: all to webhook and chat, what is critical to
        the one on call and by mail as well."""
        critical = {"matchers": ['severity="critical"'], "continue": True}
        return {
            "route": {
                "receiver": "webhook",
                "group_by": ["alertname", "region", "zone"],
                "group_wait": "1s",
                "group_interval": "2s",
                "repeat_interval": "1h",
                "routes": [
                    {"receiver": "webhook", "continue": True},
                    {"receiver": "slack", "continue": True},
                    {"receiver": "pagerduty", **critical},
                    {"receiver": "mail", **critical},
                ],
            },
            "receivers": [
                {"name": name, **(_notifier(name, kind, self._delivery) if self._delivery else {})}
                for name, kind in layout.RECEIVERS.items()
            ],
        }


def _notifier(name: str, kind: str, to: Delivery) -> dict[str, Any]:
    """What stands in the configuration of a receiver of this kind."""
    url = f"http://{to.http}/{to.token}/{name}"
    settings: dict[str, dict[str, Any]] = {
        "webhook": {"url": url},
        "slack": {"api_url": url, "channel": "#alerts", "text": TRACE},
        "pagerduty": {"url": url, "routing_key": "lab"},
        "email": {
            "to": f"{name}+{to.token}@harness.test",
            "from": "alertmanager@harness.test",
            "smarthost": to.smtp,
            "hello": "localhost",
            "require_tls": False,
            "html": "",
            "text": TRACE,
        },
    }
    return {f"{kind}_configs": [{"send_resolved": True, **settings[kind]}]}
