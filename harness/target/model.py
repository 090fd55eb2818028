"""What a target is and how it is reached, as plain values.

A target file (YAML) describes one target; ``harness lab up`` writes one for the
lab, a user writes one for a cloud. Nothing here says which of the two it is,
save ``simulated``, which is printed on reports and never branched on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: What is asked of an API: to look, to break, or to give back.
Purpose = Literal["observe", "inject", "undo"]
PURPOSES: tuple[Purpose, ...] = ("observe", "inject", "undo")


@dataclass(frozen=True)
class Cluster:
    """One Kubernetes cluster: a context of the kubeconfig, in one zone of one region."""

    name: str
    context: str
    region: str
    zone: str
    #: nodes expected to be ready; None: at least one
    nodes: int | None = None


@dataclass(frozen=True)
class Database:
    """One RDS instance."""

    instance: str
    region: str
    zone: str


@dataclass(frozen=True)
class Region:
    """What the harness looks at in a region. Ids are as the AWS API gives them."""

    name: str
    health_check_id: str | None
    target_group_arn: str | None
    bucket: str | None
    vpc_id: str | None
    #: zone name → subnet ids
    subnets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: addresses that a DNS answer pointing at this region contains
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlertReceivers:
    """Where the harness takes in, during a run, what Alertmanager sends it.

    ``http`` and ``smtp`` are loopback addresses, ``host:port``. Alertmanager sends to
    ``http://<http>/<token>/<name>``, mail to ``<name>+<token>@…`` at ``smtp``.
    """

    #: of at least 16 characters; keeps out whoever only guesses an address
    token: str
    #: name as in plans → ``webhook``, ``slack``, ``pagerduty`` or ``email``
    receivers: Mapping[str, Literal["webhook", "slack", "pagerduty", "email"]]
    http: str | None = None
    smtp: str | None = None


@dataclass(frozen=True)
class Pager:
    """Who is told when a fault could not be undone.

    ``url`` takes a JSON object by POST: an incoming webhook of Slack or the like; with a
    ``routing_key``, PagerDuty's Events API v2.
    """

    url: str
    routing_key: str | None = None


@dataclass(frozen=True)
class Identity:
    """Who the harness is for one purpose.

    On AWS the role ``role_arn``, assumed with ``external_id`` if its trust policy asks for one;
    on Kubernetes the service account ``service_account`` (``namespace/name``), impersonated.
    None: who the environment or the kubeconfig says.
    """

    role_arn: str | None = None
    external_id: str | None = None
    service_account: str | None = None


@dataclass(frozen=True)
class Access:
    """An identity for each purpose: who looks cannot break, who breaks can do little else."""

    observe: Identity
    inject: Identity
    undo: Identity


@dataclass(frozen=True)
class Target:
    """A system under test and how to reach it.

    ``time_scale`` divides the intervals of the AWS control plane (1 on AWS); expected
    failover times are computed with it. ``prometheus_url`` and others are loopback
    addresses on the lab.
    """

    name: str
    simulated: bool
    time_scale: float
    service_url: str
    primary: str
    standby: str
    account: str
    regions: tuple[Region, ...]
    clusters: tuple[Cluster, ...]
    databases: tuple[Database, ...]
    namespace: str
    kubeconfig: str
    prometheus_url: str
    alertmanager_url: str | None = None
    #: what Alertmanager delivers to in a run, so that delivery can be judged; None: nobody looks
    alert_receivers: AlertReceivers | None = None
    #: ``s3://bucket/prefix`` where each undo log is copied to before its fault is made
    undo_copy: str | None = None
    #: who is told when a fault could not be undone; None: nobody is
    pager: Pager | None = None
    aws_endpoint_url: str | None = None
    #: ``host:port`` of the resolver to ask; None: the system's
    dns_server: str | None = None
    hosted_zone_id: str | None = None
    #: DNS name that services use for the writable database (a CNAME), if there is one
    db_writer_host: str | None = None
    #: the CDN in front of the service (CloudFront), if there is one
    edge_url: str | None = None
    #: arrivals a second that ``service_url`` itself is meant to carry; None: nobody says
    origin_rate_max: float | None = None
    #: path of ``service_url`` that answers 2xx when the service is up
    health_path: str = "/health"
    scrape_interval_s: float = 15.0
    #: how long a health checker waits for a connection, before ``time_scale``; Route 53: 4 s
    check_connect_s: float = 4.0
    #: who the harness is for each purpose; None: for all of them who the environment says
    access: Access | None = None
    #: whether each run needs the approval of a second person (:mod:`harness.target.approval`)
    production: bool = False
    #: file of the keys that may approve, in the form of OpenSSH's allowed_signers
    approvers: str | None = None
    #: hours within which a run must lie, any of them; none: always (:mod:`harness.target.windows`)
    allowed_hours: tuple[str, ...] = ()
    #: times that no run may touch
    freezes: tuple[str, ...] = ()
    #: environment that stock tools need to reach the target (KUBECONFIG, AWS_…)
    environment: Mapping[str, str] = field(default_factory=dict)
    simulates: tuple[str, ...] = ()
    not_simulated: tuple[str, ...] = ()

    def identity(self, purpose: Purpose) -> Identity:
        """Who the harness is when it asks this target for ``purpose``."""
        if self.access is None:
            return Identity()
        identity: Identity = getattr(self.access, purpose)
        return identity

    def region(self, name: str) -> Region:
        """The region called ``name``; KeyError if the target has none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    def cluster(self, name: str) -> Cluster:
        """The cluster called ``name``; KeyError if the target has none."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise KeyError(name)
