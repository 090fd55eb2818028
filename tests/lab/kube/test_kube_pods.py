"""Pods are real processes, and the controllers keep them as the objects say."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

from harness.clock import ManualClock
from harness.lab.kube.kubelet import AddressPool
from harness.lab.kube.objects import is_condition_true
from tests.lab.kube.kube_world import (
    NAMESPACE,
    LabCluster,
    deployment,
    is_alive,
    service,
    wait_until,
)


def names(kube: LabCluster, app: str = "file") -> set[str]:
    return {p["metadata"]["name"] for p in kube.pods(app)}


def ready_names(kube: LabCluster, app: str = "file") -> set[str]:
    return {
        p["metadata"]["name"]
        for p in kube.pods(app)
        if is_condition_true(p, "Ready") and not p["metadata"].get("deletionTimestamp")
    }


def pid_of(kube: LabCluster, pod: dict[str, Any]) -> int:
    return kube.call(kube.cluster.pod_pids)[pod["metadata"]["uid"]]


def ask(pod: dict[str, Any], path: str) -> str:
    url = f"http://{pod['status']['podIP']}:8080{path}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def hit(pod: dict[str, Any], path: str) -> None:
    """Ask for something the pod does not answer to."""
    try:
        ask(pod, path)
    except OSError:
        return


def test_a_deleted_pod_ends_its_process_and_a_new_name_takes_its_place(kube: LabCluster) -> None:
    victim = kube.pods()[0]
    pid = pid_of(kube, victim)
    before = names(kube)
    kube.call(kube.cluster.delete, "Pod", NAMESPACE, victim["metadata"]["name"])
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: len(ready_names(kube)) == 2)
    assert len(ready_names(kube) - before) == 1
    assert victim["status"]["podIP"] not in {p["status"].get("podIP") for p in kube.pods()}


def test_without_replacement_a_lost_pod_stays_lost_but_a_scale_up_still_works(
    kube: LabCluster,
) -> None:
    kube.cluster.replace_pods = False
    victim = kube.pods()[0]["metadata"]["name"]
    kube.call(kube.cluster.delete, "Pod", NAMESPACE, victim)
    wait_until(lambda: len(names(kube)) == 1)
    kube.call(kube.cluster.scale, NAMESPACE, "file", 3)
    wait_until(lambda: len(ready_names(kube)) == 2)
    assert len(names(kube)) == 2
    kube.cluster.replace_pods = True
    kube.call(kube.cluster.scale, NAMESPACE, "file", 4)
    wait_until(lambda: len(ready_names(kube)) == 4)


def test_a_crashed_container_is_restarted_and_then_backs_off(kube: LabCluster) -> None:
    pod = kube.pods()[0]
    name = pod["metadata"]["name"]

    def status() -> dict[str, Any]:
        found = next(p for p in kube.pods() if p["metadata"]["name"] == name)
        return found["status"]["containerStatuses"][0]

    hit(pod, "/exit")
    wait_until(lambda: status()["restartCount"] == 1 and status()["ready"])
    assert status()["lastState"]["terminated"]["exitCode"] == 3
    hit(pod, "/exit")
    wait_until(lambda: status()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    wait_until(lambda: status()["restartCount"] == 2 and status()["ready"])
    assert "listens" in kube.kubectl("logs", name, "-n", NAMESPACE, "--previous")


def test_an_unready_pod_leaves_the_endpoints_but_keeps_running(kube: LabCluster) -> None:
    pod = kube.pods()[0]
    told: list[list[tuple[str, int]]] = []
    kube.call(kube.cluster.on_endpoints, lambda ns, name, ready: told.append(ready))
    ask(pod, "/unready")
    gone = (pod["status"]["podIP"], 8080)
    wait_until(lambda: gone not in kube.endpoints())
    assert len(told[0]) == 2
    assert len(told[-1]) == 1
    assert is_alive(pid_of(kube, pod))


def test_a_hung_process_is_found_by_its_probe_and_can_still_be_deleted(kube: LabCluster) -> None:
    pod = kube.pods()[0]
    pid = pid_of(kube, pod)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: len(kube.endpoints()) == 1)
    kube.call(kube.cluster.delete, "Pod", NAMESPACE, pod["metadata"]["name"])
    wait_until(lambda: not is_alive(pid), 5)


def test_a_lost_node_takes_its_pods_out_until_their_probes_pass_again(kube: LabCluster) -> None:
    pods = {p["spec"]["nodeName"]: p for p in kube.pods()}
    assert set(pods) == {"node-1", "node-2"}
    lost = pods["node-1"]
    kube.call(kube.cluster.set_node_ready, "node-1", False)
    wait_until(lambda: len(kube.endpoints()) == 1)
    assert lost["metadata"]["name"] not in ready_names(kube)
    ask(lost, "/unready")
    kube.call(kube.cluster.set_node_ready, "node-1", True)
    events = "get", "events", "-n", NAMESPACE
    wait_until(lambda: "Readiness probe failed" in kube.kubectl(*events))
    assert len(kube.endpoints()) == 1
    kube.call(kube.cluster.delete, "Pod", NAMESPACE, lost["metadata"]["name"])
    wait_until(lambda: len(kube.endpoints()) == 2)


def test_a_process_killed_on_a_lost_node_starts_again_when_the_node_is_back(
    kube: LabCluster,
) -> None:
    pod = next(p for p in kube.pods() if p["spec"]["nodeName"] == "node-1")
    pid = pid_of(kube, pod)
    kube.call(kube.cluster.set_node_ready, "node-1", False)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: pod["metadata"]["uid"] not in kube.call(kube.cluster.pod_pids))
    kube.call(kube.cluster.set_node_ready, "node-1", True)
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert pod["metadata"]["name"] in ready_names(kube)


def test_pods_are_evicted_from_a_node_that_stays_lost(tmp_path: Path) -> None:
    kube = LabCluster(tmp_path, 12, eviction_s=0.3)
    try:
        kube.apply(service())
        kube.apply(deployment())
        wait_until(lambda: len(kube.endpoints()) == 2)
        kube.call(kube.cluster.set_node_ready, "node-1", False)
        wait_until(lambda: len(kube.endpoints()) == 2)
        nodes = {p["spec"]["nodeName"] for p in kube.pods() if is_condition_true(p, "Ready")}
        assert nodes == {"node-2"}
        kube.call(kube.cluster.set_node_ready, "node-1", True)
        wait_until(lambda: len(names(kube)) == 2)
    finally:
        kube.close()


def test_a_rolling_update_keeps_enough_pods_and_ends_with_the_new_version(
    kube: LabCluster,
) -> None:
    fewest: list[int] = []
    kube.call(kube.cluster.on_endpoints, lambda ns, name, ready: fewest.append(len(ready)))
    kube.apply(deployment(version="v2"))

    def versions() -> set[str]:
        addresses = {ip for ip, _ in kube.endpoints()}
        pods = [p for p in kube.pods() if p["status"].get("podIP") in addresses]
        return {p["spec"]["containers"][0]["image"] for p in pods}

    wait_until(lambda: versions() == {"files/file:v2"} and len(kube.endpoints()) == 2)
    assert min(fewest) >= 2
    wait_until(lambda: len(names(kube)) == 2)
    assert {ask(p, "/") for p in kube.pods()} == {"v2"}


def test_deleting_a_deployment_takes_its_replica_sets_and_processes_with_it(
    kube: LabCluster,
) -> None:
    pids = kube.call(kube.cluster.pod_pids).values()
    kube.call(kube.cluster.delete, "Deployment", NAMESPACE, "file", api_version="apps/v1")
    wait_until(lambda: not names(kube) and not any(map(is_alive, pids)))
    assert kube.call(kube.cluster.list, "ReplicaSet", NAMESPACE, api_version="apps/v1") == []
    wait_until(lambda: kube.endpoints() == [])


def test_orphaned_pods_outlive_their_deployment_and_are_adopted_again(kube: LabCluster) -> None:
    before = names(kube)
    kube.kubectl("delete", "deploy", "file", "-n", NAMESPACE, "--cascade=orphan")
    assert names(kube) == before
    kube.apply(deployment())
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert names(kube) == before


def test_the_environment_comes_from_fields_config_maps_and_secrets(kube: LabCluster) -> None:
    manifest = deployment("auth", 1)
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] += [
        {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
    ]
    container["envFrom"] = [{"configMapRef": {"name": "c"}}]
    kube.apply(manifest)

    def waiting() -> str:
        statuses = [p["status"].get("containerStatuses") for p in kube.pods("auth")]
        return statuses[0][0]["state"].get("waiting", {}).get("reason", "") if all(statuses) else ""

    wait_until(lambda: waiting() == "" or waiting() == "CreateContainerConfigError")
    metadata = {"namespace": NAMESPACE}
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**metadata, "name": "s"},
            "stringData": {"key": "dummy"},
        }
    )
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {**metadata, "name": "c"},
            "data": {"MODE": "test"},
        }
    )
    wait_until(lambda: len(ready_names(kube, "auth")) == 1)
    (pod,) = kube.pods("auth")
    environ = Path("/proc", str(pid_of(kube, pod)), "environ").read_bytes().decode().split("\0")
    node = pod["spec"]["nodeName"]
    assert {f"WHERE={node}", "KEY=dummy", "MODE=test", "ZONE=us-east-1a"} <= set(environ)


def test_closing_the_cluster_leaves_no_process_and_restarts_none(tmp_path: Path) -> None:
    kube = LabCluster(tmp_path, 13)
    kube.apply(service())
    kube.apply(deployment(replicas=3))
    wait_until(lambda: len(kube.endpoints()) == 3)
    pids = list(kube.call(kube.cluster.pod_pids).values())
    kube.close()
    assert len(pids) == 3
    assert not any(map(is_alive, pids))
    assert kube.cluster.pod_pids() == {}


def test_a_start_is_delayed_as_configured(tmp_path: Path) -> None:
    kube = LabCluster(tmp_path, 14, start_delay_s=0.8)
    try:
        kube.apply(deployment(replicas=1))
        wait_until(lambda: kube.pods() and kube.pods()[0]["spec"].get("nodeName"))
        assert kube.call(kube.cluster.pod_pids) == {}
        status = wait_until(lambda: kube.pods()[0]["status"].get("containerStatuses"))
        assert status[0]["state"]["waiting"]["reason"] == "ContainerCreating"
        wait_until(lambda: len(kube.call(kube.cluster.pod_pids)) == 1)
    finally:
        kube.close()


def test_an_address_rests_before_it_is_used_again_unless_there_is_no_other() -> None:
    clock = ManualClock()
    pool = AddressPool(["a", "b", "c"], clock, rest_s=5.0)
    assert (pool.take(), pool.take()) == ("a", "b")
    pool.give_back("a")
    assert pool.take() == "c"
    assert pool.take() == "a"
    assert pool.take() is None
    pool.give_back("b")
    clock.advance(6)
    pool.give_back("a")
    assert pool.take() == "b"
