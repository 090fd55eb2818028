"""What joins the lab's parts: a change in one API becomes true everywhere else.

Nothing here starts a process (``assembly`` does); these are the feeds and the
platform's own automation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import aiohttp

from harness.errors import LabError
from harness.lab import delivery, manifests, route53
from harness.lab import layout as names
from harness.lab.assembly import Parts
from harness.lab.aws.seed import db_address, lb_address
from harness.lab.contentchecks import ContentChecks, Pods
from harness.lab.disaster import DisasterRecovery
from harness.lab.dns import Answer, Record
from harness.lab.hands import LabHands
from harness.lab.services.pod import DEFECTS as SERVICE_DEFECTS

log = logging.getLogger("harness.lab.platform")

GATEWAY = "gateway"
#: The node controller's grace period before a silent node is NotReady; divided by the time scale.
NODE_GRACE_S = 40.0
_TRUTH_PERIOD_S = 0.5


class Platform:
    """The wiring of one lab."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.layout = parts.layout
        self.aws_state: dict[str, Any] = {}
        #: groups cut off now: zone names, region names, ``node:<name>``
        self.cut = parts.cut
        self._asked_seen: dict[str, int] = {}
        self._lag_s: dict[str, float] = {}
        self._prometheus_doomed = "prometheus-stops" in parts.defects
        self._node_timers: dict[str, asyncio.TimerHandle] = {}
        self._lock = asyncio.Lock()
        self.checks = ContentChecks(self._to_check)
        self.hands = LabHands(self)
        self.recovery = DisasterRecovery(
            self.hands,
            clock=parts.clock,
            time_scale=parts.time_scale,
            primary=names.PRIMARY_REGION,
            standby=names.STANDBY_REGION,
            promotes="standby-never-promoted" not in parts.defects,
        )

    # ---- life ----------------------------------------------------------------------

    async def start(self) -> None:
        """Start the parts, deploy the services and hook up the feeds."""
        parts = self.parts
        await parts.start(self.answer)
        self._apply_aws_to_dns(await parts.aws.state())
        for cluster in parts.clusters.values():
            cluster.on_endpoints(self._endpoints_changed)
            cluster.on_rollout(self._rollout_changed)
        for zone in self.layout.zones:
            for manifest in manifests.manifests(
                self.layout,
                zone.cluster,
                standby=zone.region == names.STANDBY_REGION,
                version="v1",
                defects=[d for d in parts.defects if d in SERVICE_DEFECTS],
            ):
                await parts.clusters[zone.cluster].apply(manifest)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """The coroutines that run as long as the lab lives."""
        return [
            self._follow_aws(),
            self._tell_changes(),
            self._look(),
            self._feed_prometheus(),
            self.parts.database.run(),
            self.checks.run(),
        ]

    async def stop(self) -> None:
        for timer in self._node_timers.values():
            timer.cancel()
        await self.parts.network.unblock_all()
        self.parts.network.close()

    async def settled(self, deadline_s: float) -> None:
        """Wait until every pod is ready, the primary's health check green and DNS answers it."""
        deadline = self.parts.clock.monotonic_s() + deadline_s
        while (missing := self._unsettled()) is not None:
            if self.parts.clock.monotonic_s() > deadline:
                raise LabError(
                    f"not ready after {deadline_s:.0f} s: {missing}",
                    hint="look at logs/ below the lab's state directory",
                )
            await asyncio.sleep(0.1)

    def _unsettled(self) -> str | None:
        for name in self.parts.clusters:
            for workload, (ready, wanted) in self.workloads(name).items():
                if ready < wanted:
                    return f"{workload} in {name}: {ready} of {wanted} pods ready"
        for region in self.layout.regions:
            if not all(self.parts.envoys[region.name].last_health.values()):
                return f"load balancer of {region.name} sees unhealthy targets"
        for check, status in self.parts.health.statuses.items():
            if not status.healthy or status.observed is None:
                return f"health check {check} is not green: {status.reason}"
        return None

    def workloads(self, cluster: str) -> dict[str, tuple[int, int]]:
        """Deployment or Rollout of the services → (ready, wanted) pods."""
        found = [
            workload
            for kind, version in (("Deployment", "apps/v1"), ("Rollout", "argoproj.io/v1alpha1"))
            for workload in self.parts.clusters[cluster].list(
                kind, names.NAMESPACE, api_version=version
            )
        ]
        return {
            d["metadata"]["name"]: (
                d.get("status", {}).get("readyReplicas", 0),
                d["spec"].get("replicas", 1),
            )
            for d in found
        }

    # ---- AWS → everything else ---------------------------------------------------------

    async def _follow_aws(self) -> None:
        async for state in self.parts.aws.watch():
            async with self._lock:
                self._apply_aws_to_dns(state)
                await self._apply_aws_to_database(state)
                await self._apply_aws_to_network(state)

    def _apply_aws_to_dns(self, state: dict[str, Any]) -> None:
        self.aws_state = state
        self.parts.health.update(state["health_checks"])

    async def _apply_aws_to_database(self, state: dict[str, Any]) -> None:
        """Failovers and promotions asked for since the last look."""
        database, west = self.parts.database, self.layout.zones[-1]
        for db in state["databases"]:
            asked = db["failovers"] + db["promotions"]
            before = self._asked_seen.get(db["id"], 0)
            self._asked_seen[db["id"]] = asked
            if asked == before:
                continue
            if db["id"] == west.db_instance:
                if "standby-never-promoted" not in self.parts.defects:
                    try:
                        await database.promote(west.name)
                    except (OSError, TimeoutError, RuntimeError) as error:
                        # RDS refuses, too; the lab and its other feeds go on.
                        log.warning("%s was not promoted: %s", west.db_instance, error)
            else:
                database.request_failover()

    async def _apply_aws_to_network(self, state: dict[str, Any]) -> None:
        wanted = self._cut_by(state)
        if "fault-never-lands" in self.parts.defects:
            wanted = {g for g in wanted if g.startswith("node:")}
        for group in sorted(self.cut - wanted):
            await self._heal(group)
        for group in sorted(wanted - self.cut):
            await self._cut(group)
        if wanted and self._prometheus_doomed:
            self._prometheus_doomed = False
            asyncio.get_running_loop().call_later(5.0, self._kill_prometheus)

    def _kill_prometheus(self) -> None:
        if self.parts.prometheus is not None:
            self.parts.prometheus.kill()

    def _cut_by(self, state: dict[str, Any]) -> set[str]:
        """What the AWS state cuts off: zones whose subnets all deny, regions of such zones only."""
        by_zone: dict[str, list[bool]] = {}
        for subnet in state["subnets"]:
            by_zone.setdefault(subnet["zone"], []).append(subnet["denied"])
        cut = {z.name for z in self.layout.zones if all(by_zone.get(z.name, [False]))}
        for region in self.layout.regions:
            if all(z.name in cut for z in self.layout.zones_in(region.name)):
                cut.add(region.name)
        for node, instance in self.parts.instance_of_node.items():
            states = [i["state"] for i in state["instances"] if i["id"] == instance]
            if states and states[0] not in ("running", "pending"):
                cut.add(f"node:{node}")
        return cut

    async def _cut(self, group: str) -> None:
        log.info("cutting off %s", group)
        self.cut.add(group)
        await self.parts.network.block(group, *self._members(group))
        loop = asyncio.get_running_loop()
        for node in self._nodes(group):
            self._cancel_timer(node)
            self._node_timers[node] = loop.call_later(
                NODE_GRACE_S / self.parts.time_scale, self._node_ready, node, False
            )

    async def _heal(self, group: str) -> None:
        log.info("joining %s again", group)
        if group in {z.name for z in self.layout.zones}:
            self.parts.database.came_back(group)
        self.cut.discard(group)
        await self.parts.network.unblock(group)
        if group.startswith("node:"):
            await self._restart_pods(group.removeprefix("node:"))
        for node in self._nodes(group):
            self._cancel_timer(node)
            self._node_ready(node, True)

    def _cancel_timer(self, node: str) -> None:
        timer = self._node_timers.pop(node, None)
        if timer is not None:
            timer.cancel()

    def _node_ready(self, node: str, ready: bool) -> None:
        cluster = self.layout.zone(self.parts.zone_of_node[node]).cluster
        self.parts.clusters[cluster].set_node_ready(
            node, ready, "" if ready else "NodeStatusUnknown"
        )

    async def _restart_pods(self, node: str) -> None:
        """A machine that was stopped comes back with none of its processes."""
        for cluster in self.parts.clusters.values():
            running = cluster.pod_pids()
            for pod in cluster.list_pods(names.NAMESPACE):
                uid = pod["metadata"]["uid"]
                if pod["spec"].get("nodeName") == node and uid in running:
                    await self.parts.runner.stop(uid, 0.0)

    def _nodes(self, group: str) -> list[str]:
        if group.startswith("node:"):
            return [group.removeprefix("node:")]
        return [n for n, zone in self.parts.zone_of_node.items() if zone == group]

    def _members(self, group: str) -> tuple[list[int], list[tuple[str, int]]]:
        """Processes and listening addresses behind ``group``."""
        parts = self.parts
        if group in parts.envoys:
            regional = (parts.envoys[group], parts.stores[group])
            return _flat(regional)
        if group.startswith("node:"):
            return self._pods_on({group.removeprefix("node:")})
        zonal = (parts.databases[group], parts.redis[group], parts.queues[group])
        pids, listeners = _flat(zonal)
        pod_pids, pod_listeners = self._pods_on(set(self._nodes(group)))
        return pids + pod_pids, listeners + pod_listeners

    def _pods_on(self, nodes: set[str]) -> tuple[list[int], list[tuple[str, int]]]:
        pids, listeners = [], []
        for cluster in self.parts.clusters.values():
            running = cluster.pod_pids()
            for pod in cluster.list_pods(names.NAMESPACE):
                if pod["spec"].get("nodeName") in nodes and pod["metadata"]["uid"] in running:
                    pids.append(running[pod["metadata"]["uid"]])
                    listeners.append((pod["status"]["podIP"], names.POD_PORT))
        return pids, listeners

    def watch_checks(self) -> None:
        """Have Prometheus scrape the synthetic checks, once they are served."""
        if self.parts.prometheus is not None:
            at = (self.layout.control, names.CONTROL_PORT, {})
            self.parts.prometheus.set_targets("checks", [at])

    def blocked(self, zone: str) -> bool:
        """Whether ``zone`` is cut off now."""
        return zone in self.cut

    # ---- Kubernetes → load balancers, Prometheus ----------------------------------------------

    def _endpoints_changed(self, namespace: str, service: str, _: list[tuple[str, int]]) -> None:
        if namespace == names.NAMESPACE and service in (GATEWAY, manifests.CANARY_SERVICE):
            self._balance()

    def _rollout_changed(self, namespace: str, name: str) -> None:
        if namespace == names.NAMESPACE and name == GATEWAY:
            self._balance()

    def _balance(self) -> None:
        """Tell the load balancers the gateway pods and the share of each."""
        for region in self.layout.regions:
            zones = self.layout.zones_in(region.name)
            splits = {zone.name: self._split(zone.cluster) for zone in zones}
            shares = delivery.weights(splits.values())
            zone_of = {
                address: zone
                for zone, split in splits.items()
                for address in (*split.canary, *split.stable)
            }
            endpoints = [(*address, zone_of[address]) for address in shares]
            self.parts.envoys[region.name].set_endpoints(endpoints, shares)

    def _split(self, cluster: str) -> delivery.Split:
        found = self.parts.clusters[cluster]
        weight = found.canary_weight(names.NAMESPACE, GATEWAY)
        if "canary-gets-no-traffic" in self.parts.defects:
            weight = 0
        return delivery.Split(
            tuple(found.endpoints(names.NAMESPACE, GATEWAY)),
            tuple(found.endpoints(names.NAMESPACE, manifests.CANARY_SERVICE)),
            weight,
        )

    def _to_check(self) -> tuple[Pods, tuple[str, int] | None]:
        """Gateway pods of versions that are being tried, and one of a version that is not."""
        clusters = [z.cluster for z in self.layout.zones if z.name not in self.cut]
        splits = [self._split(cluster) for cluster in clusters]
        stable = {address for split in splits for address in split.stable}
        tried = {a for split in splits for a in split.canary} - stable
        pods = {
            (pod["status"]["podIP"], names.POD_PORT): pod["metadata"]["name"]
            for cluster in clusters
            for pod in self.parts.clusters[cluster].list_pods(names.NAMESPACE, f"app={GATEWAY}")
            if tried and pod["status"].get("podIP")
        }
        return {a: pods[a] for a in sorted(tried & pods.keys())}, min(stable, default=None)

    async def _feed_prometheus(self) -> None:
        """Keep Prometheus scraping every pod that has an address, ready or not."""
        last: list[Any] = []
        while True:
            targets = [
                (
                    pod["status"]["podIP"],
                    names.POD_PORT,
                    {
                        "app": pod["metadata"]["labels"].get("app", ""),
                        "zone": zone.name,
                        "region": zone.region,
                        "pod": pod["metadata"]["name"],
                    },
                )
                for zone in self.layout.zones
                for pod in self.parts.clusters[zone.cluster].list_pods(names.NAMESPACE)
                # One that is being ended would only look like one that is down.
                if pod["status"].get("podIP") and not pod["metadata"].get("deletionTimestamp")
            ]
            if targets != last:
                self.parts.prometheus.set_targets("services", targets)
                last = targets
            await asyncio.sleep(1.0)

    # ---- what is true → the AWS API's answers ----------------------------------------------------

    async def _tell_changes(self) -> None:
        """Tell the AWS API what changed, at once; nothing here waits for anybody else."""
        parts = self.parts
        while True:
            await parts.changed.wait()
            parts.changed.clear()
            databases = parts.database.describe()
            for view in databases.values():
                view["lag_s"] = self._lag_s.get(view["zone"])
            await self._put_truth(
                health=parts.health.truth(), targets=self._targets(), databases=databases
            )

    async def _look(self) -> None:
        """See what only the parts themselves know; slow where one of them is cut off."""
        parts = self.parts
        while True:
            envoys = [e for e in parts.envoys.values() if e.region not in self.cut]
            await asyncio.gather(*(e.host_health() for e in envoys), return_exceptions=True)
            if not parts.database.primary_down:
                self._lag_s = await parts.database.lag_s()
            parts.changed.set()
            await asyncio.sleep(_TRUTH_PERIOD_S)

    async def _put_truth(self, **truth: Any) -> None:
        try:
            await self.parts.aws.put_truth(**truth)
        except (aiohttp.ClientError, OSError) as error:
            log.warning("the AWS API did not take the truth: %s", error)

    def _targets(self) -> dict[str, bool]:
        """``ip:port`` → healthy, for every gateway pod a load balancer knows.

        A load balancer that is itself cut off tells nothing: its targets are not healthy.
        """
        return {
            f"{ip}:{port}": ok and envoy.region not in self.cut
            for envoy in self.parts.envoys.values()
            for (ip, port), ok in envoy.last_health.items()
        }

    # ---- DNS ------------------------------------------------------------------------------------

    def answer(self, name: str, qtype: str) -> Answer | None:
        """What the lab's DNS says: Kubernetes services, RDS endpoints, Route 53 records."""
        if name.endswith(".lab") and f".{names.NAMESPACE}.svc." in name:
            return self._service_answer(name, qtype)
        if not self.aws_state:
            return Answer(rcode="SERVFAIL")
        return route53.resolve(
            name,
            qtype,
            self.aws_state,
            self.parts.health.healthy,
            self.parts.time_scale,
            self._endpoint_addresses,
            never_fail_over="dns-never-fails-over" in self.parts.defects,
        )

    def _service_answer(self, name: str, qtype: str) -> Answer:
        """A headless service: the addresses of its ready pods."""
        for zone in self.layout.zones:
            for service in names.SERVICES:
                if name == self.layout.service_host(service, zone.cluster):
                    cluster = self.parts.clusters.get(zone.cluster)
                    ready = cluster.endpoints(names.NAMESPACE, service) if cluster else []
                    records = [Record(name, "A", 1, ip) for ip, _ in ready if qtype == "A"]
                    return Answer(tuple(records), zone="lab")
        return Answer(rcode="NXDOMAIN", zone="lab")

    def _endpoint_addresses(self, name: str) -> list[str] | None:
        """Addresses behind the names RDS and the load balancers have in the AWS API."""
        database = self.parts.database
        for zone in self.layout.zones:
            if name == db_address(zone.db_instance, zone.region):
                return [self.layout.db(database.describe()[zone.db_instance]["zone"])]
        for region in self.layout.regions:
            if name == lb_address(region.lb_name, region.name):
                return [self.layout.lb(region.name)]
        return None


def _flat(parts: tuple[Any, ...]) -> tuple[list[int], list[tuple[str, int]]]:
    return (
        [pid for p in parts for pid in p.pids()],
        [listener for p in parts for listener in p.listeners],
    )
