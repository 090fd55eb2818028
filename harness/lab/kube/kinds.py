"""The kinds this API server knows: one entry per kind says everything about it.

To serve another kind, custom resources included, add an entry (or pass one as
``extra_kinds`` to the cluster); discovery, CRUD, watch and tables follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.lab.kube import defaults, events, rolloutspec, tables
from harness.lab.kube.objects import Obj
from harness.lab.kube.tables import Column

_META_FIELDS = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True)
class Kind:
    """One served resource.

    ``fields`` are the paths it can be selected by besides name and namespace.
    ``strategic`` is False for custom resources, which know no strategic merge.
    ``storage`` names the stored resource where two APIs show the same objects;
    ``to_view`` and ``from_view`` then convert.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    has_scale: bool = False
    strategic: bool = True
    fields: frozenset[str] = frozenset()
    columns: tuple[Column, ...] = tables.PLAIN
    default: Callable[[Obj], None] | None = None
    check: Callable[[Obj, Obj | None], defaults.Causes] | None = None
    storage: str = ""
    to_view: Callable[[Obj], Obj] | None = None
    from_view: Callable[[Obj], Obj] | None = None
    selectable: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "selectable", self.fields | _META_FIELDS)
        if not self.storage:
            object.__setattr__(self, "storage", f"{self.group}/{self.plural}")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def counts_generations(self) -> bool:
        """Whether ``metadata.generation`` follows the changes of the spec."""
        return self.has_status and self.kind not in ("Pod", "Node", "Service", "Namespace")


_EVENT_COMMON = {"type", "reason"}
_EVENT_FIELDS = frozenset(
    _EVENT_COMMON
    | {"source", "reportingComponent", "reportingController"}
    | {
        f"{about}.{part}"
        for about in ("involvedObject", "regarding")
        for part in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")
    }
    | {"involvedObject.resourceVersion", "regarding.resourceVersion"}
)
_POD_FIELDS = frozenset(
    {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    }
)

NAMESPACE = Kind(
    "",
    "v1",
    "Namespace",
    "namespaces",
    namespaced=False,
    short_names=("ns",),
    has_status=True,
    fields=frozenset({"status.phase"}),
    columns=tables.NAMESPACE,
    default=defaults.namespace,
)
NODE = Kind(
    "",
    "v1",
    "Node",
    "nodes",
    namespaced=False,
    short_names=("no",),
    has_status=True,
    fields=frozenset({"spec.unschedulable"}),
    columns=tables.NODE,
)
POD = Kind(
    "",
    "v1",
    "Pod",
    "pods",
    short_names=("po",),
    categories=("all",),
    has_status=True,
    fields=_POD_FIELDS,
    columns=tables.POD,
    default=defaults.pod,
    check=defaults.check_pod,
)
SERVICE = Kind(
    "",
    "v1",
    "Service",
    "services",
    short_names=("svc",),
    categories=("all",),
    has_status=True,
    fields=frozenset({"spec.clusterIP", "spec.type"}),
    columns=tables.SERVICE,
    default=defaults.service,
    check=defaults.check_service,
)
ENDPOINTS = Kind("", "v1", "Endpoints", "endpoints", short_names=("ep",), columns=tables.ENDPOINTS)
ENDPOINT_SLICE = Kind(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    columns=tables.ENDPOINT_SLICE,
)
CONFIG_MAP = Kind(
    "", "v1", "ConfigMap", "configmaps", short_names=("cm",), columns=tables.CONFIG_MAP
)
SECRET = Kind(
    "",
    "v1",
    "Secret",
    "secrets",
    fields=frozenset({"type"}),
    columns=tables.SECRET,
    default=defaults.secret,
)
SERVICE_ACCOUNT = Kind(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    short_names=("sa",),
    columns=tables.SERVICE_ACCOUNT,
)
EVENT = Kind(
    "",
    "v1",
    "Event",
    "events",
    short_names=("ev",),
    fields=_EVENT_FIELDS,
    columns=tables.EVENT,
)
EVENT_V1 = Kind(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    short_names=("ev",),
    fields=_EVENT_FIELDS,
    columns=tables.EVENT,
    storage=EVENT.storage,
    to_view=events.to_events_v1,
    from_view=events.from_events_v1,
)
DEPLOYMENT = Kind(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    short_names=("deploy",),
    categories=("all",),
    has_status=True,
    has_scale=True,
    columns=tables.DEPLOYMENT,
    default=defaults.deployment,
    check=defaults.check_workload,
)
REPLICASET = Kind(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    short_names=("rs",),
    categories=("all",),
    has_status=True,
    has_scale=True,
    fields=frozenset({"status.replicas"}),
    columns=tables.REPLICASET,
    default=defaults.replicaset,
    check=defaults.check_workload,
)
DISRUPTION_BUDGET = Kind(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    short_names=("pdb",),
    has_status=True,
    columns=tables.DISRUPTION_BUDGET,
    default=defaults.disruption_budget,
    check=defaults.check_disruption_budget,
)
AUTOSCALER = Kind(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    short_names=("hpa",),
    categories=("all",),
    has_status=True,
    columns=tables.AUTOSCALER,
    default=defaults.hpa,
    check=defaults.check_hpa,
)
NETWORK_POLICY = Kind(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    short_names=("netpol",),
    columns=tables.NETWORK_POLICY,
    default=defaults.network_policy,
)
INGRESS = Kind(
    "networking.k8s.io", "v1", "Ingress", "ingresses", short_names=("ing",), has_status=True
)
ROLLOUT = Kind(
    "argoproj.io",
    "v1alpha1",
    "Rollout",
    "rollouts",
    short_names=("ro",),
    categories=("all",),
    has_status=True,
    has_scale=True,
    strategic=False,
    columns=tables.ROLLOUT,
    default=rolloutspec.default,
    check=rolloutspec.check,
)
ANALYSIS_TEMPLATE = Kind(
    "argoproj.io",
    "v1alpha1",
    "AnalysisTemplate",
    "analysistemplates",
    short_names=("at",),
    strategic=False,
    check=rolloutspec.check_template,
)
ANALYSIS_RUN = Kind(
    "argoproj.io",
    "v1alpha1",
    "AnalysisRun",
    "analysisruns",
    short_names=("ar",),
    has_status=True,
    strategic=False,
    columns=tables.ANALYSIS_RUN,
    check=rolloutspec.check_template,
)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", columns=tables.LEASE)


def _stored_workload(kind: str, plural: str, group: str = "apps", **more: object) -> Kind:
    """A kind that is kept but has no controller here."""
    return Kind(
        group,
        "v1",
        kind,
        plural,
        categories=("all",),
        has_status=True,
        columns=tables.WORKLOAD,
        default=defaults.workload,
        **more,  # type: ignore[arg-type]
    )


DEFAULT_KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    EVENT,
    DEPLOYMENT,
    REPLICASET,
    _stored_workload("StatefulSet", "statefulsets", short_names=("sts",), has_scale=True),
    _stored_workload("DaemonSet", "daemonsets", short_names=("ds",)),
    _stored_workload("Job", "jobs", "batch"),
    AUTOSCALER,
    LEASE,
    ENDPOINT_SLICE,
    EVENT_V1,
    INGRESS,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
    ROLLOUT,
    ANALYSIS_TEMPLATE,
    ANALYSIS_RUN,
)


class KindTable:
    """Look-up of kinds by path and by object."""

    def __init__(self, kinds: Iterable[Kind] = DEFAULT_KINDS) -> None:
        self.kinds = tuple(kinds)
        self._by_path = {(k.group, k.version, k.plural): k for k in self.kinds}
        self._by_object = {(k.api_version, k.kind): k for k in self.kinds}

    def by_path(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def by_object(self, api_version: str, kind: str) -> Kind | None:
        return self._by_object.get((api_version, kind))

    def stored(self) -> list[Kind]:
        """Kinds whose objects are kept under their own name."""
        return [k for k in self.kinds if k.to_view is None]

    def groups(self) -> list[tuple[str, list[str]]]:
        """Named groups with their versions, in order of first appearance."""
        found: dict[str, list[str]] = {}
        for kind in self.kinds:
            versions = found.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return [(group, versions) for group, versions in found.items() if group]
