"""The parts of a lab and the order they start in.

Started together as far as they do not need one another: on two cores the slowest
chains are AWS (imports and seeding) and PostgreSQL (copies of the primary).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from harness.clock import Clock
from harness.errors import LabError
from harness.lab import layout as names
from harness.lab import proc
from harness.lab.aws import server
from harness.lab.aws.client import AwsState
from harness.lab.aws.seed import HEALTHY_THRESHOLD, SeedConfig
from harness.lab.database import Database
from harness.lab.dns import AnswerFunction, DnsServer
from harness.lab.envoy import Envoy, HealthCheck
from harness.lab.health import HealthChecker
from harness.lab.kube.analysis import Answer
from harness.lab.kube.autoscaling import Values
from harness.lab.kube.cluster import Cluster, NodeSpec
from harness.lab.layout import Layout
from harness.lab.manifests import REQUESTS_METRIC, requests_query
from harness.lab.network import Network
from harness.lab.packetfilter import PacketFilter
from harness.lab.part import Part, http_get
from harness.lab.postgres import Postgres
from harness.lab.prometheus import Alertmanager, Delivery, Prometheus
from harness.lab.queue import Queue
from harness.lab.redis import Redis
from harness.lab.services.metadata import SCHEMA
from harness.lab.zygote import ZygoteRunner

log = logging.getLogger("harness.lab.assembly")

#: An EKS pod of a warmed image takes some seconds from scheduling to its process.
POD_START_DELAY_S = 2.0


class PythonPart(Part):
    """A part that is a module of the lab run by this interpreter."""

    def __init__(
        self, name: str, listener: tuple[str, int], log_path: Path, argv: list[str], ready_path: str
    ) -> None:
        super().__init__(name, [listener], log_path)
        self._argv = argv
        self._ready_path = ready_path

    def _spawn(self) -> Any:
        return proc.spawn(self._argv, log=self.log)

    async def _is_ready(self) -> bool:
        status, _ = await http_get(*self.listeners[0], self._ready_path, timeout_s=1.0)
        return status == 200


class Parts:
    """Every part of one lab. Attributes by zone or region are keyed by its name."""

    def __init__(
        self,
        state_dir: Path,
        layout: Layout,
        clock: Clock,
        time_scale: float,
        defects: tuple[str, ...],
        network: str = "stop",
        pod_start_delay_s: float = POD_START_DELAY_S,
    ) -> None:
        self.state_dir = state_dir
        self.layout = layout
        self.clock = clock
        self.time_scale = time_scale
        self._pod_start_delay_s = pod_start_delay_s
        self.defects = defects
        table = f"harness_lab_{layout.base}"
        self.network = Network(PacketFilter(table) if network == "nft" else None)
        self.runner = ZygoteRunner(state_dir / "zygote.sock", state_dir / "logs" / "zygote.log")
        self.aws_process = self._aws()
        self.aws = AwsState(f"http://{layout.aws}:{names.AWS_PORT}")
        self.seed: dict[str, Any] = {}
        self.databases = {z.name: self._postgres(z.name) for z in layout.zones}
        self.redis = {
            z.name: Redis(
                f"redis-{z.name}",
                layout.redis(z.name),
                names.REDIS_PORT,
                self._dir("redis", z.name),
                self._log(f"redis-{z.name}"),
            )
            for z in layout.zones
        }
        self.queues = {
            z.name: Queue(
                f"queue-{z.name}",
                layout.queue(z.name),
                names.QUEUE_PORT,
                self._dir("queue", z.name),
                self._log(f"queue-{z.name}"),
            )
            for z in layout.zones
        }
        self.stores = {r.name: self._store(r.name) for r in layout.regions}
        self.envoys = {r.name: self._envoy(r.name) for r in layout.regions}
        self.edge = self._edge()
        self.prometheus: Prometheus | None = None
        self.alertmanager: Alertmanager | None = None
        self.delivery = Delivery(
            http=f"{layout.receivers}:{names.RECEIVERS_HTTP_PORT}",
            smtp=f"{layout.receivers}:{names.RECEIVERS_SMTP_PORT}",
            token=secrets.token_hex(16),
        )
        self.clusters: dict[str, Cluster] = {}
        #: queries under way, kept so that they are not lost half-way
        self._queries: set[asyncio.Task[Any]] = set()
        self.instance_of_node: dict[str, str] = {}
        self.zone_of_node: dict[str, str] = {}
        self.health = HealthChecker(clock, time_scale, lambda *_: self.changed.set())
        #: set when something the AWS API must tell has changed
        self.changed = asyncio.Event()
        #: zone names that are cut off; the platform keeps it
        self.cut: set[str] = set()
        self.database = Database(
            layout,
            self.databases,
            clock=clock,
            time_scale=time_scale,
            blocked=self.cut.__contains__,
            changed=self.changed.set,
        )
        self.dns: DnsServer | None = None

    def _dir(self, *below: str) -> Path:
        path = self.state_dir.joinpath("data", *below)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _log(self, name: str) -> Path:
        path = self.state_dir / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _aws(self) -> PythonPart:
        seed = self.state_dir / "data" / "aws-seed.json"
        seed.parent.mkdir(parents=True, exist_ok=True)
        SeedConfig(self.layout.base, self.time_scale).write(seed)
        address = (self.layout.aws, names.AWS_PORT)
        return PythonPart(
            "aws", address, self._log("aws"), server.command(*address, seed), "/_lab/seed"
        )

    def _postgres(self, zone: str) -> Postgres:
        name = self.layout.zone(zone).db_instance
        # The data folder is given to an unprivileged user, so it is made by Postgres itself.
        return Postgres(
            name,
            self.layout.db(zone),
            names.DB_PORT,
            self._dir("postgres") / zone,
            self._log(f"postgres-{zone}"),
        )

    def _store(self, region: str) -> PythonPart:
        layout = self.layout
        peer = next(r.name for r in layout.regions if r.name != region)
        address = (layout.store(region), names.STORE_PORT)
        argv = [
            sys.executable,
            "-m",
            "harness.lab.store",
            "--host",
            address[0],
            "--port",
            str(address[1]),
            "--region",
            region,
            "--bucket",
            layout.region(region).bucket,
            "--dir",
            str(self._dir("store", region)),
            "--peer",
            f"http://{layout.store(peer)}:{names.STORE_PORT}/{layout.region(peer).bucket}",
            "--lag-s",
            "0.2",
        ]
        return PythonPart(
            f"store-{region}", address, self._log(f"store-{region}"), argv, "/metrics"
        )

    def _edge(self) -> PythonPart:
        layout = self.layout
        address = (layout.edge, names.EDGE_PORT)
        argv = [
            sys.executable,
            "-m",
            "harness.lab.edge",
            "--host",
            address[0],
            "--port",
            str(address[1]),
            "--metrics-port",
            str(names.EDGE_METRICS_PORT),
            "--dns",
            f"{layout.dns}:{names.DNS_PORT}",
            "--origin",
            f"{names.SERVICE_HOST}:{names.LB_PORT}",
        ]
        admin = (layout.edge, names.EDGE_METRICS_PORT)
        return PythonPart("edge", admin, self._log("edge"), argv, "/health")

    def _envoy(self, region: str) -> Envoy:
        return Envoy(
            region,
            self.layout.lb(region),
            names.LB_PORT,
            names.LB_ADMIN_PORT,
            self._dir("envoy", region),
            self._log(f"envoy-{region}"),
            # As in the seeded target groups: a pod back from a lost zone first gets its breath.
            health_check=HealthCheck(healthy_threshold=HEALTHY_THRESHOLD),
            sticky="lb-keeps-dead-zone" in self.defects,
        )

    # ---- start -----------------------------------------------------------------------------

    async def start(self, answer: AnswerFunction, schema_sql: str = SCHEMA) -> None:
        """Start every part; ``answer`` is what the DNS server says.

        Children are spawned from this thread (the main one): the kernel ties their life to it.
        """
        self.dns = DnsServer(self.layout.dns, names.DNS_PORT, answer)
        await self.aws_process.start()
        await asyncio.gather(
            self.runner.open(),
            self.dns.start(),
            self._start_databases(schema_sql),
            self._start_watching(),
            self._start_clusters(),
            *(
                self._up(p)
                for p in (
                    *self.redis.values(),
                    *self.queues.values(),
                    *self.stores.values(),
                    *self.envoys.values(),
                    self.edge,
                )
            ),
        )

    async def _up(self, part: Part) -> None:
        await part.start()
        await part.ready(20.0)
        log.info("%s is ready", part.name)

    async def _start_databases(self, schema_sql: str) -> None:
        await self.database.boot(schema_sql)
        log.info("databases are ready")

    async def _start_watching(self) -> None:
        """Alertmanager (where it can be had), then Prometheus."""
        if await asyncio.to_thread(Alertmanager.available):
            self.alertmanager = Alertmanager(
                self.layout.alertmanager,
                names.ALERTMANAGER_PORT,
                self._dir("alertmanager"),
                self._log("alertmanager"),
                self.delivery,
                delivers="alerts-never-delivered" not in self.defects,
            )
            await self._up(self.alertmanager)
        self.prometheus = Prometheus(
            self.layout.prometheus,
            names.PROMETHEUS_PORT,
            self._dir("prometheus"),
            self._log("prometheus"),
            time_scale=self.time_scale,
            alertmanager=(self.layout.alertmanager, names.ALERTMANAGER_PORT)
            if self.alertmanager
            else None,
        )
        self.prometheus.set_targets(
            "envoy",
            [
                (self.layout.lb(r.name), names.LB_ADMIN_PORT, {"region": r.name})
                for r in self.layout.regions
            ],
        )
        self.prometheus.set_targets(
            "store",
            [
                (self.layout.store(r.name), names.STORE_PORT, {"region": r.name})
                for r in self.layout.regions
            ],
        )
        self.prometheus.set_targets("edge", [(self.layout.edge, names.EDGE_METRICS_PORT, {})])
        await self._up(self.prometheus)

    async def _start_clusters(self) -> None:
        """The Kubernetes API servers; their nodes are EC2 instances, so AWS comes first."""
        self.seed = await self.aws.ready(30.0)
        log.info("AWS is ready")
        for zone in self.layout.zones:
            instances = self.seed["regions"][zone.region]["zones"][zone.name]["instances"]
            nodes = [NodeSpec(_node_name(i["private_ip"], zone.region), i["id"]) for i in instances]
            for node in nodes:
                self.instance_of_node[node.name] = node.instance_id
                self.zone_of_node[node.name] = zone.name
            cluster = Cluster(
                zone.cluster,
                zone=zone.name,
                region=zone.region,
                nodes=nodes,
                pod_ips=self.layout.pod_ips(zone.name),
                runner=self.runner,
                clock=self.clock,
                log_dir=self.state_dir / "logs" / "pods",
                start_delay_s=0.0,
                ask=self._ask,
                measure=self._measure,
            )
            await cluster.serve(self.layout.kube(zone.cluster), names.KUBE_PORT)
            self.clusters[zone.cluster] = cluster

    def _ask(self, metric: dict[str, Any], answered: Callable[[Answer], None]) -> None:
        """Measure a metric of an AnalysisRun: its query, asked of the lab's Prometheus."""
        query = metric["provider"]["prometheus"]["query"]

        def told(found: list[dict[str, Any]] | str) -> None:
            answered(found if isinstance(found, str) else [_value(series) for series in found])

        self._query(query, told)

    def _measure(
        self, metric: str, pods: Sequence[str], answered: Callable[[Values], None]
    ) -> None:
        """Measure a metric of pods, as an adapter of custom metrics does from its rules."""
        if metric != REQUESTS_METRIC:
            answered(f"the server could not find the metric {metric} for pods")
            return

        def told(found: list[dict[str, Any]] | str) -> None:
            if isinstance(found, str):
                answered(found)
            else:
                answered({series["metric"].get("pod", ""): _value(series) for series in found})

        self._query(requests_query(pods), told)

    def _query(self, query: str, told: Callable[[list[dict[str, Any]] | str], None]) -> None:
        """Ask the lab's Prometheus; ``told`` gets the series, or why there are none."""
        task = asyncio.ensure_future(self._queried(query))
        self._queries.add(task)

        def done(task: asyncio.Task[list[dict[str, Any]] | str]) -> None:
            self._queries.discard(task)
            if not task.cancelled():
                told(task.result())

        task.add_done_callback(done)

    async def _queried(self, query: str) -> list[dict[str, Any]] | str:
        if self.prometheus is None:
            return "there is no Prometheus"
        try:
            return await self.prometheus.query(query)
        except (
            LabError,
            aiohttp.ClientError,
            OSError,
            TimeoutError,
            ValueError,
            KeyError,
        ) as error:
            return f"{type(error).__name__}: {error}"

    def settle(self) -> None:
        """The first pods start at once; from now on one takes as long as in a real cluster."""
        for cluster in self.clusters.values():
            cluster.start_delay_s = self._pod_start_delay_s
            cluster.replace_pods = "pods-not-replaced" not in self.defects
            cluster.analysis_blind = "canary-analysis-says-success" in self.defects
            cluster.autoscaler.acts = "hpa-does-nothing" not in self.defects
            cluster.autoscaler.scales_in = "hpa-never-scales-back" not in self.defects

    # ---- end ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End every part; pods first, so that none is restarted, then what they use."""
        await asyncio.gather(*(c.close() for c in self.clusters.values()), return_exceptions=True)
        await self.runner.close()
        if self.dns is not None:
            await self.dns.close()
        await self.health.close()
        await self.aws.close()
        await asyncio.gather(*(p.stop() for p in self._all_parts()), return_exceptions=True)

    def _all_parts(self) -> list[Part]:
        parts: list[Part] = [
            self.aws_process,
            *self.databases.values(),
            *self.redis.values(),
            *self.queues.values(),
            *self.stores.values(),
            *self.envoys.values(),
            self.edge,
        ]
        parts += [p for p in (self.prometheus, self.alertmanager) if p is not None]
        return parts


def _value(series: dict[str, Any]) -> float:
    return float(series["value"][1])


def _node_name(private_ip: str, region: str) -> str:
    """An EC2 instance's private name, which EKS gives its node."""
    return f"ip-{private_ip.replace('.', '-')}.{region}.compute.internal"
