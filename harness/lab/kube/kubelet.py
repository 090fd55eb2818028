"""Kubelet: turns pods that were given a node into running processes.

One task per pod follows its process through its life:

    starting ─► running ─► (ends by itself) back-off ─► running …
        └──────────┴──── deleted: SIGTERM, grace, SIGKILL ─► object removed

A pod is one process, that of its first container; the other containers share its
state. Init containers are not run. While a node is not ready its kubelet
cannot be reached: nothing on it is started, ended or reported until it is back.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.clock import Clock
from harness.errors import HarnessError
from harness.lab.kube import kinds
from harness.lab.kube.logs import LogBook
from harness.lab.kube.objects import (
    Obj,
    at,
    image_tag,
    is_condition_true,
    is_terminating,
    labels_of,
    meta,
    name_of,
    namespace_of,
    set_condition,
    uid_of,
)
from harness.lab.kube.probes import Prober, ProbeSpec, http_get, tcp_connect
from harness.lab.kube.registry import Registry
from harness.lab.kube.runner import PodRunner, PodSpec
from harness.lab.kube.store import DELETED, Change

DEFAULT_PORT = 8080
_RETRY_S = 1.0
_STEADY_S = 600.0


@dataclass
class KubeletConfig:
    """Delays in seconds: ``start_delay_s`` from scheduled to process start (may be changed)."""

    cluster: str
    zone: str
    region: str
    log_dir: Path
    start_delay_s: float
    restart_backoff_s: float
    restart_backoff_max_s: float


class AddressPool:
    """Hands out addresses in order; one just freed rests before it is used again."""

    def __init__(self, addresses: Sequence[str], clock: Clock, *, rest_s: float = 5.0) -> None:
        self._clock = clock
        self._rest_s = rest_s
        self._free: dict[str, float] = {a: float("-inf") for a in addresses}
        self._order = {a: i for i, a in enumerate(addresses)}

    def take(self) -> str | None:
        """The first rested address, else the one freed longest ago; None if all are used."""
        if not self._free:
            return None
        rested_before = self._clock.monotonic_s() - self._rest_s
        rested = [a for a, freed in self._free.items() if freed <= rested_before]
        if rested:
            chosen = min(rested, key=self._order.__getitem__)
        else:
            chosen = min(self._free, key=self._free.__getitem__)
        del self._free[chosen]
        return chosen

    def give_back(self, address: str) -> None:
        self._free[address] = self._clock.monotonic_s()


class Kubelet:
    """The kubelets of all nodes of one cluster."""

    def __init__(
        self,
        registry: Registry,
        runner: PodRunner,
        addresses: AddressPool,
        config: KubeletConfig,
    ) -> None:
        self.registry = registry
        self.runner = runner
        self.addresses = addresses
        self.config = config
        self.shutting_down = False
        self.workers: dict[str, PodWorker] = {}
        self._reachable: dict[str, asyncio.Event] = {}
        self._unsubscribe = registry.store.subscribe(self._on_change)

    def _on_change(self, change: Change) -> None:
        if self.shutting_down:
            return
        if change.resource == kinds.POD.storage:
            self._on_pod(change)
        elif change.resource == kinds.NODE.storage:
            self._on_node(change)

    def _on_pod(self, change: Change) -> None:
        pod, uid = change.obj, uid_of(change.obj)
        worker = self.workers.get(uid)
        if change.type == DELETED:
            if worker:
                worker.kill()
        elif worker is None and at(pod, "spec.nodeName") and not _is_finished(pod):
            self.workers[uid] = PodWorker(self, pod)
        elif worker and is_terminating(pod):
            worker.terminate(meta(pod).get("deletionGracePeriodSeconds", 0))

    def _on_node(self, change: Change) -> None:
        name = name_of(change.obj)
        event = self.reachable(name)
        ready = change.type != DELETED and is_condition_true(change.obj, "Ready")
        if ready == event.is_set():
            return
        if ready:
            event.set()
        else:
            event.clear()
        for worker in self.workers.values():
            if worker.node == name:
                worker.on_node(ready)

    def reachable(self, node: str) -> asyncio.Event:
        """Set while ``node`` is ready."""
        if node not in self._reachable:
            event = self._reachable[node] = asyncio.Event()
            found = self.registry.store.get(kinds.NODE.storage, "", node)
            if found and is_condition_true(found, "Ready"):
                event.set()
        return self._reachable[node]

    def worker_of(self, namespace: str, name: str) -> PodWorker | None:
        pod = self.registry.store.get(kinds.POD.storage, namespace, name)
        return self.workers.get(uid_of(pod)) if pod else None

    async def close(self, grace_s: float) -> None:
        """Stop every pod, restarting and reporting nothing."""
        self.shutting_down = True
        self._unsubscribe()
        workers = list(self.workers.values())
        await asyncio.gather(*(w.shut_down(grace_s) for w in workers))
        self.workers.clear()


def _is_finished(pod: Obj) -> bool:
    return at(pod, "status.phase") in ("Succeeded", "Failed")


class ConfigError(Exception):
    """The pod's environment refers to something that is not there."""


class PodWorker:
    """Follows one pod from the moment it has a node until its object is gone."""

    def __init__(self, kubelet: Kubelet, pod: Obj) -> None:
        self._kubelet = kubelet
        self._registry = kubelet.registry
        self._pod = pod
        self.uid = uid_of(pod)
        self.namespace, self.name = namespace_of(pod), name_of(pod)
        self.node: str = at(pod, "spec.nodeName")
        self.pid: int | None = None
        self.ip: str | None = None
        self.env: Mapping[str, str] = {}
        self.restarts = 0
        self.logs = LogBook(self._registry.clock)
        self.previous_logs: LogBook | None = None
        self._ready = False
        self._began = 0.0
        self._failures = 0
        self._has_gone = False
        self._grace_s = 0.0
        self._stop = asyncio.Event()
        self._probes: list[asyncio.Task[None]] = []
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)
        if is_terminating(pod):
            self.terminate(meta(pod).get("deletionGracePeriodSeconds", 0))

    # -- what others tell it ---------------------------------------------------------

    def terminate(self, grace_s: float) -> None:
        """The pod was deleted: end the process within ``grace_s`` and remove the object."""
        self._grace_s = grace_s
        self._stop.set()

    def kill(self) -> None:
        """The object is gone already: end the process now."""
        self._has_gone = True
        self.terminate(0.0)

    def on_node(self, ready: bool) -> None:
        """The node was lost, or is back; then the probes decide anew."""
        self._stop_probes()
        if ready and self.pid is not None:
            self._ready = False
            self._start_probes()

    async def shut_down(self, grace_s: float) -> None:
        self._task.cancel()
        self._stop_probes()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._kubelet.runner.stop(self.uid, grace_s)

    # -- its life ----------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if not await self._prepare():
                    continue
                ended = await self._run_once()
                if ended is None or not self._restart_wanted(ended):
                    break
                await self._back_off(ended)
            await self._stop.wait()
            await self._end()
        finally:
            self._stop_probes()
            if not self._kubelet.shutting_down:
                self._leave()

    def _leave(self) -> None:
        if self.ip:
            self._kubelet.addresses.give_back(self.ip)
        self._kubelet.workers.pop(self.uid, None)

    async def _prepare(self) -> bool:
        """Wait for the node, take an address, let the start delay pass, read the environment."""
        await self._or_stop(self._kubelet.reachable(self.node).wait())
        if self._stop.is_set():
            return False
        if self.ip is None:
            self.ip = self._kubelet.addresses.take()
            if self.ip is None:
                message = "failed to assign an IP address to container: no address is free"
                self._event("FailedCreatePodSandBox", message, warning=True)
                await self._pause(_RETRY_S)
                return False
            self._write(lambda obj: self._waiting(obj, "ContainerCreating"))
            await self._pause(self._kubelet.config.start_delay_s)
        try:
            self.env = self._environment()
        except ConfigError as error:
            text = str(error)
            self._write(lambda obj: self._waiting(obj, "CreateContainerConfigError", text))
            self._event("Failed", f"Error: {text}", warning=True)
            await self._pause(_RETRY_S)
            return False
        return not self._stop.is_set()

    async def _run_once(self) -> int | None:
        """Run the process until it ends (its exit code) or the pod is deleted (None)."""
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[int] = loop.create_future()
        started = self._registry.now()
        spec = self._spec()
        self.logs.open(spec.log_path)

        def on_exit(code: int) -> None:
            if not exited.done():
                exited.set_result(code)

        try:
            self.pid = await self._kubelet.runner.start(spec, on_exit)
        except (OSError, HarnessError) as error:
            text = str(error)
            self._event("Failed", f"Error: {text}", warning=True)
            self._write(lambda obj: self._waiting(obj, "RunContainerError", text))
            return 128
        self._began = self._registry.clock.monotonic_s()
        self._event("Started", f"Started container {self._container['name']}")
        self._write(lambda obj: self._running(obj, started))
        self._start_probes()
        await self._or_stop(asyncio.shield(exited))
        if not exited.done():
            return None
        self._stop_probes()
        self.pid, code = None, exited.result()
        self._ready = False
        # What happened on a lost node is known only when it is back.
        await self._or_stop(self._kubelet.reachable(self.node).wait())
        self._write(lambda obj: self._terminated(obj, code, started))
        return code

    def _restart_wanted(self, code: int) -> bool:
        policy = at(self._pod, "spec.restartPolicy", "Always")
        if self._stop.is_set():
            return False
        if policy == "Always" or (policy == "OnFailure" and code != 0):
            return True
        self._write(lambda obj: self._finished(obj, code))
        return False

    async def _back_off(self, code: int) -> None:
        config = self._kubelet.config
        if self._registry.clock.monotonic_s() - self._began > _STEADY_S:
            self._failures = 0
        self._failures = self._failures + 1
        self.restarts += 1
        if self._failures > 1:
            delay_s = min(
                config.restart_backoff_s * 2 ** (self._failures - 2),
                config.restart_backoff_max_s,
            )
            message = f"back-off {delay_s:g}s restarting failed container={self._container['name']}"
            self._event("BackOff", f"Back-off restarting failed container: {message}", warning=True)
            self._write(lambda obj: self._waiting(obj, "CrashLoopBackOff", message))
            await self._pause(delay_s)

    async def _end(self) -> None:
        """The pod was deleted: stop hook, SIGTERM, grace, SIGKILL, and the object goes."""
        if not self._has_gone:
            await self._kubelet_reached()
        self._stop_probes()
        if self.pid is not None:
            self._event("Killing", f"Stopping container {self._container['name']}")
            await self._pre_stop()
            await self._kubelet.runner.stop(self.uid, self._grace_s)
            self.pid = None
        if not self._kubelet.shutting_down and not self._has_gone:
            self._registry.remove(kinds.POD, self._pod)

    async def _kubelet_reached(self) -> None:
        """A pod on a lost node stays terminating, unless its object is removed by force."""
        while not self._has_gone and not self._kubelet.reachable(self.node).is_set():
            self._stop.clear()
            await self._or_stop(self._kubelet.reachable(self.node).wait())
            self._stop.set()

    async def _pre_stop(self) -> None:
        """``lifecycle.preStop.sleep``: keeps serving while load balancers notice."""
        seconds = float(at(self._container, "lifecycle.preStop.sleep.seconds", 0))
        if seconds > 0 and self._grace_s > 0:
            await asyncio.sleep(min(seconds, self._grace_s))

    async def _or_stop(self, waited: object) -> None:
        """Wait for ``waited`` or the end of the pod, whichever comes first."""
        first = asyncio.ensure_future(waited)  # type: ignore[call-overload]
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({first, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in (first, stop):
                if not future.done():
                    future.cancel()

    async def _pause(self, duration_s: float) -> None:
        if duration_s > 0:
            await self._or_stop(asyncio.sleep(duration_s))

    # -- probes ------------------------------------------------------------------------

    def _start_probes(self) -> None:
        self._stop_probes()
        if not self._kubelet.reachable(self.node).is_set():
            return
        readiness = self._container.get("readinessProbe")
        if readiness:
            self._add_prober(readiness, self._on_readiness, "Readiness", verdict=False)
        else:
            self._on_readiness(True, "")
        if liveness := self._container.get("livenessProbe"):
            self._add_prober(liveness, self._on_liveness, "Liveness", verdict=True)

    def _add_prober(
        self, probe: Obj, on_verdict: Callable[[bool, str], None], name: str, *, verdict: bool
    ) -> None:
        def failed(problem: str) -> None:
            self._event("Unhealthy", f"{name} probe failed: {problem}", warning=True)

        prober = Prober(ProbeSpec.parse(probe), self._check, on_verdict, failed)
        task = asyncio.get_running_loop().create_task(prober.run(verdict=verdict))
        self._probes.append(task)

    def _stop_probes(self) -> None:
        for task in self._probes:
            task.cancel()
        self._probes.clear()

    async def _check(self, spec: ProbeSpec) -> str:
        self.logs.mark()
        host = self.ip or ""
        if http := spec.target.get("httpGet"):
            port = self._port_number(http.get("port"))
            return await http_get(host, port, http.get("path", "/"), spec.timeout_s)
        if tcp := spec.target.get("tcpSocket"):
            return await tcp_connect(host, self._port_number(tcp.get("port")), spec.timeout_s)
        return "this kind of probe is not supported here: use httpGet or tcpSocket"

    def _port_number(self, port: object) -> int:
        if isinstance(port, int) or str(port).isdigit():
            return int(str(port))
        for declared in self._container.get("ports") or ():
            if declared.get("name") == port:
                return int(declared["containerPort"])
        return self._port

    def _on_readiness(self, ok: bool, problem: str) -> None:
        self._ready = ok
        self._write(self._readiness)

    def _on_liveness(self, ok: bool, problem: str) -> None:
        if not ok and self.pid is not None:
            name = self._container["name"]
            message = f"Container {name} failed liveness probe, will be restarted"
            self._event("Killing", message)
            grace_s = float(self._registry.grace_of(self._pod))
            stop = self._kubelet.runner.stop(self.uid, grace_s)
            self._probes.append(asyncio.get_running_loop().create_task(_detached(stop)))

    # -- what it starts ----------------------------------------------------------------

    @property
    def _container(self) -> Obj:
        return self._pod["spec"]["containers"][0]

    @property
    def _port(self) -> int:
        ports = self._container.get("ports") or ()
        return int(ports[0]["containerPort"]) if ports else DEFAULT_PORT

    def _spec(self) -> PodSpec:
        config = self._kubelet.config
        folder = config.log_dir / f"{self.namespace}_{self.name}"
        return PodSpec(
            cluster=config.cluster,
            zone=config.zone,
            region=config.region,
            namespace=self.namespace,
            name=self.name,
            uid=self.uid,
            app=labels_of(self._pod).get("app", ""),
            version=image_tag(self._container["image"]),
            ip=self.ip or "",
            port=self._port,
            env=self.env,
            log_path=folder / f"{self.restarts}.log",
        )

    def _environment(self) -> dict[str, str]:
        """The container's variables, then those every pod has. Raises ConfigError."""
        env: dict[str, str] = {}
        for source in self._container.get("envFrom") or ():
            for key, reader in (("configMapRef", self._config_map), ("secretRef", self._secret)):
                if key in source:
                    prefix = source.get("prefix", "")
                    env.update({prefix + k: v for k, v in reader(source[key]).items()})
        for variable in self._container.get("env") or ():
            if "valueFrom" in variable:
                value = self._value_from(variable["valueFrom"])
            else:
                value = str(variable.get("value", ""))
            if value is not None:
                env[variable["name"]] = value
        config = self._kubelet.config
        return env | {
            "POD_NAME": self.name,
            "POD_IP": self.ip or "",
            "CLUSTER": config.cluster,
            "ZONE": config.zone,
            "REGION": config.region,
            "NODE_NAME": self.node,
            "APP": labels_of(self._pod).get("app", ""),
            "VERSION": image_tag(self._container["image"]),
            "PORT": str(self._port),
        }

    def _value_from(self, source: Obj) -> str | None:
        if reference := source.get("fieldRef"):
            path = str(reference.get("fieldPath", ""))
            if path == "status.podIP":
                return self.ip or ""
            prefix, bracket, key = path.partition("['")
            if bracket:
                return str(at(self._pod, prefix, {}).get(key.removesuffix("']"), ""))
            return str(at(self._pod, path, ""))
        for kind, reader in (
            ("configMapKeyRef", self._config_map),
            ("secretKeyRef", self._secret),
        ):
            if reference := source.get(kind):
                values = reader(reference)
                if reference.get("key") in values:
                    return values[reference["key"]]
                if reference.get("optional"):
                    return None
                raise ConfigError(f"couldn't find key {reference.get('key')} in {reference}")
        return None

    def _config_map(self, reference: Obj) -> dict[str, str]:
        return self._referenced(kinds.CONFIG_MAP, reference).get("data") or {}

    def _secret(self, reference: Obj) -> dict[str, str]:
        data: Mapping[str, str] = self._referenced(kinds.SECRET, reference).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _referenced(self, kind: kinds.Kind, reference: Obj) -> Obj:
        name = reference.get("name", "")
        found = self._registry.store.get(kind.storage, self.namespace, name)
        if found is None and not reference.get("optional"):
            raise ConfigError(f'{kind.kind.lower()} "{name}" not found')
        return found or {}

    # -- what it reports -----------------------------------------------------------------

    def _write(self, change: Callable[[Obj], None]) -> None:
        """Change the pod's status, if this is still the pod of that name."""
        if self._has_gone or self._kubelet.shutting_down:
            return
        present = self._registry.store.get(kinds.POD.storage, self.namespace, self.name)
        if present is not None and uid_of(present) == self.uid:
            self._registry.mutate(kinds.POD, self.namespace, self.name, change)

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        if not self._kubelet.shutting_down:
            self._registry.events.record(
                self._pod, reason, message, source="kubelet", warning=warning, host=self.node
            )

    def _statuses(self, obj: Obj, state: Obj, *, ready: bool) -> None:
        before = {s["name"]: s for s in at(obj, "status.containerStatuses", ())}
        obj["status"]["containerStatuses"] = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "containerID": f"process://{self.uid}/{self.restarts}" if self.pid else "",
                "ready": ready,
                "started": "running" in state,
                "restartCount": self.restarts,
                "state": state,
                "lastState": before.get(container["name"], {}).get("lastState") or {},
            }
            for container in obj["spec"]["containers"]
        ]
        self._conditions(obj, ready=ready)

    def _conditions(self, obj: Obj, *, ready: bool) -> None:
        now, text = self._registry.now(), "True" if ready else "False"
        reason = "" if ready else "ContainersNotReady"
        names = " ".join(c["name"] for c in obj["spec"]["containers"])
        message = "" if ready else f"containers with unready status: [{names}]"
        set_condition(obj, "PodReadyToStartContainers", "True" if self.ip else "False", now)
        set_condition(obj, "Initialized", "True", now)
        for type_ in ("ContainersReady", "Ready"):
            set_condition(obj, type_, text, now, reason=reason, message=message)

    def _waiting(self, obj: Obj, reason: str, message: str = "") -> None:
        state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        obj["status"].setdefault("startTime", self._registry.now())
        self._statuses(obj, state, ready=False)

    def _running(self, obj: Obj, started: str) -> None:
        node = self._registry.store.get(kinds.NODE.storage, "", self.node) or {}
        addresses: Iterable[Obj] = at(node, "status.addresses", ())
        host = next((a["address"] for a in addresses if a["type"] == "InternalIP"), "")
        obj["status"].update(
            phase="Running",
            podIP=self.ip,
            podIPs=[{"ip": self.ip}],
            hostIP=host,
            hostIPs=[{"ip": host}],
        )
        self._statuses(obj, {"running": {"startedAt": started}}, ready=False)

    def _terminated(self, obj: Obj, code: int, started: str) -> None:
        # A process ended by a signal has a negative return code; containers report 128 + n.
        shown = 128 - code if code < 0 else code
        ended = {
            "exitCode": shown,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": started,
            "finishedAt": self._registry.now(),
            "containerID": f"process://{self.uid}/{self.restarts}",
            **({"signal": -code} if code < 0 else {}),
        }
        self.previous_logs = self.logs
        self.logs = LogBook(self._registry.clock)
        self._statuses(obj, {"terminated": ended}, ready=False)
        for status in obj["status"]["containerStatuses"]:
            status["lastState"] = {"terminated": ended}

    def _finished(self, obj: Obj, code: int) -> None:
        obj["status"]["phase"] = "Succeeded" if code == 0 else "Failed"

    def _readiness(self, obj: Obj) -> None:
        for status in at(obj, "status.containerStatuses", ()):
            status["ready"] = self._ready
        reachable = self._kubelet.reachable(self.node).is_set()
        self._conditions(obj, ready=self._ready and reachable)


async def _detached(stop: object) -> None:
    """Let a stop run to its end although the probe that asked for it is cancelled."""
    await asyncio.shield(stop)  # type: ignore[call-overload]
