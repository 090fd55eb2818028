"""One cluster, wired: store, API server, controllers and kubelets in one event loop.

    cluster = Cluster("us-east-1a", zone=…, region=…, nodes=[NodeSpec("node-1", "i-0")], …)
    await cluster.serve("127.0.0.11", 6443)
    await cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", …})
    …
    await cluster.close()

Objects handed out are shared with the store: read them, never change them.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aiohttp import web

from harness.clock import Clock
from harness.errors import LabError
from harness.lab.kube import kinds, patch
from harness.lab.kube.analysis import AnalysisController, Ask
from harness.lab.kube.api import Api
from harness.lab.kube.apierror import not_found
from harness.lab.kube.autoscaling import AutoscalerController, Measure, Values
from harness.lab.kube.controller import ControllerManager
from harness.lab.kube.deployments import DeploymentController
from harness.lab.kube.disruption import DisruptionController
from harness.lab.kube.endpoints import EndpointsController, ready_addresses
from harness.lab.kube.garbage import GarbageCollector, NamespaceController
from harness.lab.kube.kinds import DEFAULT_KINDS, Kind, KindTable
from harness.lab.kube.kubelet import AddressPool, Kubelet, KubeletConfig
from harness.lab.kube.nodes import (
    NodeController,
    NodeSpec,
    Place,
    Scheduler,
    node_object,
    set_ready,
)
from harness.lab.kube.objects import Obj, at, labels_of, meta, name_of, timestamp
from harness.lab.kube.registry import DeleteOptions, Registry
from harness.lab.kube.replicasets import ReplicaSetController
from harness.lab.kube.rollouts import RolloutController
from harness.lab.kube.runner import PodRunner
from harness.lab.kube.selectors import label_selector
from harness.lab.kube.store import Store

__all__ = ["Cluster", "NodeSpec", "kubeconfig"]

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_NODE_HOST_FROM = 241


def _nobody_asked(metric: Obj, answered: Callable[[str], None]) -> None:
    answered("this cluster has no metrics provider")


def _nobody_measures(metric: str, pods: Sequence[str], answered: Callable[[Values], None]) -> None:
    answered("this cluster has no custom metrics API")


def _later(delay_s: float, action: Callable[[], None]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()
    handle = loop.call_later(delay_s, action) if delay_s > 0 else loop.call_soon(action)
    return handle.cancel


class Cluster:
    """A Kubernetes cluster of pods that are processes.

    Delays are in seconds. ``start_delay_s`` passes between a pod's scheduling and its
    process's start; ``restart_backoff_s`` doubles with each crash up to
    ``restart_backoff_max_s``; pods stay ``eviction_s`` on an unreachable node.
    ``extra_kinds`` are served besides the built-in ones. ``seed`` fixes names and uids.
    ``ask`` measures the metrics of AnalysisRuns, ``measure`` those of autoscalers.
    """

    def __init__(
        self,
        name: str,
        *,
        zone: str,
        region: str,
        nodes: Sequence[NodeSpec],
        pod_ips: Sequence[str],
        runner: PodRunner,
        clock: Clock,
        log_dir: Path,
        start_delay_s: float = 0.5,
        termination_grace_s: float = 2.0,
        restart_backoff_s: float = 10.0,
        restart_backoff_max_s: float = 300.0,
        eviction_s: float = 300.0,
        extra_kinds: Iterable[Kind] = (),
        history: int = 5000,
        seed: int | None = None,
        ask: Ask = _nobody_asked,
        measure: Measure = _nobody_measures,
    ) -> None:
        self.name = name
        self._clock = clock
        self._nodes = tuple(nodes)
        self._place = Place(zone, region)
        self._pod_ips = tuple(pod_ips)
        self._grace_s = termination_grace_s
        self._eviction_s = eviction_s
        self._config = KubeletConfig(
            name, zone, region, log_dir, start_delay_s, restart_backoff_s, restart_backoff_max_s
        )
        self._runner = runner
        self._store = Store(history=history)
        table = KindTable((*DEFAULT_KINDS, *extra_kinds))
        self.registry = Registry(
            self._store,
            table,
            clock,
            random.Random(seed),
            default_grace_s=max(1, math.ceil(termination_grace_s)),
        )
        self._replicasets = ReplicaSetController(self.registry)
        self._endpoints = EndpointsController(self.registry)
        self._rollouts = RolloutController(self.registry)
        self._analysis = AnalysisController(self.registry, ask)
        self._autoscalers = AutoscalerController(self.registry, measure)
        self._manager: ControllerManager | None = None
        self._kubelet: Kubelet | None = None
        self._api: Api | None = None
        self._server: web.AppRunner | None = None
        self._url = ""

    # -- life ------------------------------------------------------------------------------

    @property
    def replace_pods(self) -> bool:
        """False is a seeded defect: the ReplicaSet controller stops replacing lost pods."""
        return self._replicasets.replace_pods

    @replace_pods.setter
    def replace_pods(self, value: bool) -> None:
        self._replicasets.replace_pods = value

    @property
    def analysis_blind(self) -> bool:
        """True is a seeded defect: every measurement of a new version is called good."""
        return self._analysis.blind

    @analysis_blind.setter
    def analysis_blind(self, value: bool) -> None:
        self._analysis.blind = value

    @property
    def autoscaler(self) -> AutoscalerController:
        """The controller of HorizontalPodAutoscalers, whose seeded defects are set there."""
        return self._autoscalers

    @property
    def start_delay_s(self) -> float:
        """Seconds from a pod's scheduling to its process's start, for pods yet to come."""
        return self._config.start_delay_s

    @start_delay_s.setter
    def start_delay_s(self, value: float) -> None:
        self._config.start_delay_s = value

    @property
    def url(self) -> str:
        return self._url

    async def serve(self, host: str, port: int) -> None:
        """Register the nodes, start the controllers and listen (port 0: any free one).

        Raises LabError if the address cannot be used.
        """
        self._start_parts(host)
        assert self._api is not None
        # A client that hangs up ends its watch at once, not at the next event.
        self._server = web.AppRunner(
            self._api.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._server.setup()
        site = web.TCPSite(self._server, host, port)
        try:
            await site.start()
        except OSError as error:
            await self.close()
            raise LabError(
                f"the Kubernetes API of {self.name} cannot listen on {host}:{port}: {error}",
                hint="stop what uses this address, or start the lab on another base",
            ) from error
        bound = self._server.addresses[0]
        self._url = f"http://{bound[0]}:{bound[1]}"

    def _start_parts(self, host: str) -> None:
        now = timestamp(self._clock.wall_s())
        known = {
            spec.name: node_object(spec, self._place, self._node_address(index, host), now)
            for index, spec in enumerate(self._nodes)
        }
        pool = AddressPool(self._pod_ips, self._clock)
        self._kubelet = Kubelet(self.registry, self._runner, pool, self._config)
        self._manager = ControllerManager(
            self._store,
            [
                NamespaceController(self.registry),
                GarbageCollector(self.registry),
                NodeController(self.registry, known, self._eviction_s),
                Scheduler(self.registry),
                self._replicasets,
                DeploymentController(self.registry),
                self._rollouts,
                self._analysis,
                self._autoscalers,
                self._endpoints,
                DisruptionController(self.registry),
            ],
            _later,
        )
        self._api = Api(self.registry, self._kubelet, host)
        for namespace in _NAMESPACES:
            self.registry.create(kinds.NAMESPACE, "", {"metadata": {"name": namespace}})
        for name, node in known.items():
            self.registry.create(kinds.NODE, "", node)
            status = node["status"]
            self.registry.mutate(kinds.NODE, "", name, lambda o, s=status: o.update(status=s))

    def _node_address(self, index: int, host: str) -> str:
        if not self._pod_ips:
            return host
        return f"{self._pod_ips[0].rpartition('.')[0]}.{_NODE_HOST_FROM + index}"

    async def close(self) -> None:
        """Stop the pods first, with nothing restarted or replaced, then the server."""
        if self._manager:
            self._manager.stop()
        if self._kubelet:
            await self._kubelet.close(self._grace_s)
        if self._api:
            self._api.end_streams()
        if self._server:
            await self._server.cleanup()
            self._server = None

    # -- objects, in process -----------------------------------------------------------------

    def _kind(self, api_version: str, kind: str) -> Kind:
        found = self.registry.kinds.by_object(api_version, kind)
        if found is None:
            raise not_found(kind, api_version, "")
        return found

    async def apply(self, manifest: dict) -> dict:
        """Create the object or merge the manifest into it; returns it as stored.

        A namespace that is missing is created. Raises ApiError if it is refused.
        """
        kind = self._kind(manifest.get("apiVersion", ""), manifest.get("kind", ""))
        namespace = meta(manifest).get("namespace", "default") if kind.namespaced else ""
        if namespace and self._store.get(kinds.NAMESPACE.storage, "", namespace) is None:
            self.registry.create(kinds.NAMESPACE, "", {"metadata": {"name": namespace}})
        name = name_of(manifest)
        if self._store.get(kind.storage, namespace, name) is None:
            return self.registry.create(kind, namespace, manifest)
        merge = patch.strategic if kind.strategic else patch.merge
        return self.registry.patch(kind, namespace, name, lambda old: merge(old, manifest))

    def get(self, kind: str, namespace: str, name: str, *, api_version: str = "v1") -> dict | None:
        """The object, or None. ``namespace`` is "" for kinds outside namespaces."""
        return self._store.get(self._kind(api_version, kind).storage, namespace, name)

    def list(
        self, kind: str, namespace: str = "", selector: str = "", *, api_version: str = "v1"
    ) -> list[dict]:
        """Objects of a kind by label selector, in one namespace or (``""``) in all."""
        matches = label_selector(selector)
        found = self._store.list(self._kind(api_version, kind).storage, namespace or None)
        return [obj for obj in found if matches(labels_of(obj))]

    def patch(
        self, kind: str, namespace: str, name: str, change: dict, *, api_version: str = "v1"
    ) -> dict:
        """Merge patch (RFC 7396). Raises ApiError 404 or 422."""
        known = self._kind(api_version, kind)
        return self.registry.patch(known, namespace, name, lambda old: patch.merge(old, change))

    def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        api_version: str = "v1",
        grace_s: int | None = None,
    ) -> None:
        """Delete; pods end gracefully within ``grace_s``. Raises ApiError 404."""
        options = DeleteOptions(grace_s=grace_s)
        self.registry.delete(self._kind(api_version, kind), namespace, name, options)

    def scale(self, namespace: str, workload: str, replicas: int) -> None:
        """Set the wanted number of pods of a Deployment or Rollout. Raises ApiError 404 or 422."""
        is_rollout = self._store.get(kinds.ROLLOUT.storage, namespace, workload) is not None
        kind = kinds.ROLLOUT if is_rollout else kinds.DEPLOYMENT
        change = {"spec": {"replicas": replicas}}
        self.patch(kind.kind, namespace, workload, change, api_version=kind.api_version)

    def list_pods(self, namespace: str, selector: str = "") -> list[dict]:
        return self.list("Pod", namespace, selector)

    def pod_pids(self) -> dict[str, int]:
        """Process id by pod uid, of the pods that have a process now."""
        workers = self._kubelet.workers if self._kubelet else {}
        return {uid: worker.pid for uid, worker in workers.items() if worker.pid is not None}

    def endpoints(self, namespace: str, service: str) -> list[tuple[str, int]]:
        """Ready (address, port) of a service, as its Endpoints object says."""
        return ready_addresses(self._store.get(kinds.ENDPOINTS.storage, namespace, service))

    def on_endpoints(self, callback: Callable[[str, str, list[tuple[str, int]]], None]) -> None:
        """Call with (namespace, service, ready addresses) now and on each change."""
        self._endpoints.on_change(callback)

    def canary_weight(self, namespace: str, rollout: str) -> int:
        """Percentage of its users that a Rollout sends to its new version."""
        found = self._store.get(kinds.ROLLOUT.storage, namespace, rollout) or {}
        return int(at(found, "status.canary.weights.canary.weight", 0))

    def on_rollout(self, callback: Callable[[str, str], None]) -> None:
        """Call with (namespace, name) when the status of a Rollout has been written."""
        self._rollouts.on_change(callback)

    # -- nodes ---------------------------------------------------------------------------------

    def set_node_ready(self, node: str, ready: bool, reason: str = "") -> None:
        """Lose a node or get it back.

        Not ready: its pods are marked not ready and leave the endpoints, and nothing on
        it is started, ended or probed. Ready again: the readiness probes decide.
        Raises ApiError 404 for a node that is not there.
        """
        found = self.registry.get(kinds.NODE, "", node)
        if (_ready_status(found) == "True") == ready:
            return
        now = self.registry.now()
        self.registry.mutate(kinds.NODE, "", node, lambda obj: set_ready(obj, ready, reason, now))
        what = "NodeReady" if ready else "NodeNotReady"
        message = f"Node {node} status is now: {what}"
        self.registry.events.record(found, what, message, source="node-controller")

    # -- clients -------------------------------------------------------------------------------

    def kubeconfig_entry(self) -> dict:
        """The ``cluster``, ``context`` and ``user`` entries of a kubeconfig for this cluster."""
        user = f"{self.name}-user"
        return {
            "cluster": {"name": self.name, "cluster": {"server": self._url}},
            "user": {"name": user, "user": {"token": "lab"}},
            "context": {
                "name": self.name,
                "context": {"cluster": self.name, "user": user, "namespace": "default"},
            },
        }


def _ready_status(node: Obj) -> str:
    conditions: Iterable[Obj] = at(node, "status.conditions", ())
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "Unknown")


def kubeconfig(clusters: Sequence[Cluster]) -> dict:
    """A kubeconfig with one context per cluster, named as the cluster; the first is current."""
    entries = [cluster.kubeconfig_entry() for cluster in clusters]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [e["cluster"] for e in entries],
        "users": [e["user"] for e in entries],
        "contexts": [e["context"] for e in entries],
        "current-context": clusters[0].name if clusters else "",
        "preferences": {},
    }
