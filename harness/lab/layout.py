"""Where everything in a lab lives: names, addresses and ports, as pure values.

A lab owns one ``127.B.0.0/16`` of loopback, so every part keeps its usual port,
pods have addresses of their own, and two labs never collide (``B`` is chosen
and locked by the supervisor).

====================  ===============================================
``127.B.0.x``         outside every region: Kubernetes API servers, AWS API,
                      edge, DNS, Prometheus, Alertmanager
``127.B.1.x``         us-east-1, regional: load balancer, object store
``127.B.3.x``         us-west-2, regional: load balancer, object store
``127.B.10.x``        zone us-east-1a: database, Redis, queue, pods
``127.B.20.x``        zone us-east-1b
``127.B.30.x``        zone us-west-2a (cluster us-west-2)
====================  ===============================================
"""

from __future__ import annotations

from dataclasses import dataclass, field

PRIMARY_REGION = "us-east-1"
STANDBY_REGION = "us-west-2"

#: The name clients use. A Route 53 failover pair in the AWS API answers for it.
SERVICE_HOST = "api.fileservice.lab"
#: The name of the edge (the CDN) in front of it: downloads and images are cached there.
EDGE_HOST = "cdn.fileservice.lab"
#: The name services use to reach the writable database. A CNAME in the AWS API.
DB_WRITER_HOST = "db-writer.fileservice.lab"
#: Kubernetes namespace of the services in each cluster.
NAMESPACE = "files"

SERVICES = ("gateway", "auth", "permission", "file", "image", "notification")

POD_PORT = 8080
LB_PORT = 8080
LB_ADMIN_PORT = 9901
EDGE_PORT = 8080
EDGE_METRICS_PORT = 9901
DB_PORT = 5432
REDIS_PORT = 6379
QUEUE_PORT = 4222
STORE_PORT = 9000
KUBE_PORT = 6443
AWS_PORT = 4566
DNS_PORT = 5353
PROMETHEUS_PORT = 9090
ALERTMANAGER_PORT = 9093
#: Where Alertmanager delivers to; whoever wants to know what it says listens there.
RECEIVERS_HTTP_PORT = 9095
RECEIVERS_SMTP_PORT = 2525
#: Receivers in Alertmanager's configuration, and what each speaks.
RECEIVERS = {"webhook": "webhook", "slack": "slack", "pagerduty": "pagerduty", "mail": "email"}
#: The supervisor's own control address (status, defects, network, replication lag).
CONTROL_PORT = 8001


@dataclass(frozen=True)
class Zone:
    """An availability zone with the one EKS cluster in it."""

    name: str
    region: str
    cluster: str
    octet: int
    db_instance: str


@dataclass(frozen=True)
class Region:
    """A region: one load balancer, one object store, some zones."""

    name: str
    octet: int
    bucket: str
    lb_name: str
    health_check_ref: str


ZONES: tuple[Zone, ...] = (
    Zone("us-east-1a", "us-east-1", "us-east-1a", 10, "files-db"),
    Zone("us-east-1b", "us-east-1", "us-east-1b", 20, "files-db-replica-b"),
    Zone("us-west-2a", "us-west-2", "us-west-2", 30, "files-db-west"),
)
REGIONS: tuple[Region, ...] = (
    Region("us-east-1", 1, "files-us-east-1", "files-east", "files-east-health"),
    Region("us-west-2", 3, "files-us-west-2", "files-west", "files-west-health"),
)


@dataclass(frozen=True)
class Layout:
    """Addresses of one lab. ``base`` is the second octet of its loopback network."""

    base: int
    zones: tuple[Zone, ...] = field(default=ZONES)
    regions: tuple[Region, ...] = field(default=REGIONS)

    def _ip(self, third: int, fourth: int) -> str:
        return f"127.{self.base}.{third}.{fourth}"

    def zone(self, name: str) -> Zone:
        return next(z for z in self.zones if z.name == name)

    def region(self, name: str) -> Region:
        return next(r for r in self.regions if r.name == name)

    def zones_in(self, region: str) -> tuple[Zone, ...]:
        return tuple(z for z in self.zones if z.region == region)

    def cluster_zone(self, cluster: str) -> Zone:
        return next(z for z in self.zones if z.cluster == cluster)

    def kube(self, cluster: str) -> str:
        """Address of the Kubernetes API server of ``cluster`` (port :data:`KUBE_PORT`)."""
        return self._ip(0, 11 + [z.cluster for z in self.zones].index(cluster))

    @property
    def control(self) -> str:
        return self._ip(0, 1)

    @property
    def aws(self) -> str:
        return self._ip(0, 20)

    @property
    def edge(self) -> str:
        return self._ip(0, 40)

    @property
    def dns(self) -> str:
        return self._ip(0, 53)

    @property
    def prometheus(self) -> str:
        return self._ip(0, 90)

    @property
    def alertmanager(self) -> str:
        return self._ip(0, 93)

    @property
    def receivers(self) -> str:
        """Nobody of the lab listens here."""
        return self._ip(0, 95)

    def lb(self, region: str) -> str:
        return self._ip(self.region(region).octet, 1)

    def store(self, region: str) -> str:
        return self._ip(self.region(region).octet, 30)

    def db(self, zone: str) -> str:
        return self._ip(self.zone(zone).octet, 250)

    def redis(self, zone: str) -> str:
        return self._ip(self.zone(zone).octet, 251)

    def queue(self, zone: str) -> str:
        return self._ip(self.zone(zone).octet, 252)

    def pod_ips(self, zone: str) -> tuple[str, ...]:
        """The addresses pods of ``zone`` are given, in order, reused last-freed last."""
        return tuple(self._ip(self.zone(zone).octet, n) for n in range(1, 240))

    def service_host(self, service: str, cluster: str) -> str:
        """Headless service name: the lab's DNS answers with the ready pods' addresses."""
        return f"{service}.{NAMESPACE}.svc.{cluster}.lab"
