"""The observers of a target: which there are and how often each looks.

Periods are a trade: what a failover's timeline is read from is looked at twice a
second on a scaled-down target (its health check takes seconds to turn) and every two
seconds on a real one (where it takes a minute); the rest more slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.clock import Clock, SystemClock
from harness.target.model import Target
from harness.watch.alertmanager import Alertmanager
from harness.watch.autoscalers import Autoscalers
from harness.watch.databases import Databases
from harness.watch.db_lag import DatabaseLag
from harness.watch.dns import DatabaseWriterName, ServiceName
from harness.watch.health_checks import HealthChecks
from harness.watch.kubernetes import Nodes, Pods
from harness.watch.machine import Machine
from harness.watch.observer import Observer
from harness.watch.prometheus import Alerts, PrometheusClock
from harness.watch.replication import Replication
from harness.watch.rollouts import Deliveries
from harness.watch.targets import Targets


@dataclass(frozen=True)
class Periods:
    """Seconds between polls."""

    failover: float
    dns: float
    databases: float
    kubernetes: float
    nodes: float
    replication: float
    alerts: float
    clock: float = 10.0


SCALED = Periods(
    failover=0.5,
    dns=0.25,
    databases=0.5,
    kubernetes=0.5,
    nodes=1.0,
    replication=2.0,
    alerts=1.0,
)
REAL = Periods(
    failover=2.0,
    dns=1.0,
    databases=2.0,
    kubernetes=2.0,
    nodes=2.0,
    replication=30.0,
    alerts=5.0,
)


def periods(target: Target) -> Periods:
    """How often to look at ``target``."""
    return SCALED if target.time_scale > 1 else REAL


def observers(target: Target, clock: Clock | None = None) -> list[Observer]:
    """Everything there is to watch on ``target``; nothing is asked yet."""
    clock = clock or SystemClock()
    every = periods(target)
    found: list[Observer] = [ServiceName(target, every.dns)]
    if target.db_writer_host:
        found.append(DatabaseWriterName(target, every.dns))
    with_databases = {d.region for d in target.databases}
    for region in target.regions:
        if region.health_check_id:
            found.append(HealthChecks(target, region, every.failover))
        if region.target_group_arn:
            found.append(Targets(target, region, every.failover))
        if region.name in with_databases:
            found.append(Databases(target, region, every.databases))
            found.append(DatabaseLag(target, region, every.replication, clock))
        if region.bucket:
            found.append(Replication(target, region, every.replication, clock))
    for cluster in target.clusters:
        found.append(Pods(target, cluster, every.kubernetes))
        found.append(Nodes(target, cluster, every.nodes))
        found.append(Deliveries(target, cluster, every.nodes))
    found.append(Alerts(target, every.alerts, clock))
    if target.alertmanager_url:
        found.append(Alertmanager(target, every.alerts))
    found.append(PrometheusClock(target, every.clock, clock))
    if Machine.can_be_seen():
        found.append(Machine(clock))
    return found


def autoscalers(target: Target) -> list[Observer]:
    """Who watches how services are scaled: only asked for, since not every target allows it."""
    every_s = periods(target).kubernetes
    return [Autoscalers(target, cluster, every_s) for cluster in target.clusters]
