"""Chaos Toolkit's Kubernetes extension works unmodified."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from chaosk8s.deployment import actions as deployment_actions
from chaosk8s.deployment import probes as deployment_probes
from chaosk8s.event.probes import get_events
from chaosk8s.networking.actions import deny_all_ingress, remove_deny_all_ingress
from chaosk8s.node import actions as node_actions
from chaosk8s.node.probes import get_nodes
from chaosk8s.pod import actions as pod_actions
from chaosk8s.pod import probes as pod_probes
from chaosk8s.replicaset.actions import delete_replica_set
from chaosk8s.service.probes import service_is_initialized
from chaoslib.exceptions import ActivityFailed
from kubernetes.config import kube_config

from tests.lab.kube.kube_world import NAMESPACE, LabCluster, deployment, wait_until

APP = {"label_selector": "app=file", "ns": NAMESPACE}


@pytest.fixture(autouse=True)
def _context(kube: LabCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    monkeypatch.setenv("KUBERNETES_CONTEXT", "us-east-1a")
    # The client reads KUBECONFIG once, when it is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kube.kubeconfig))
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_terminate_pods_takes_only_the_selected_pods(kube: LabCluster) -> None:
    kube.apply(deployment("auth", 1))
    wait_until(lambda: len(kube.pods("auth")) == 1)
    other = kube.pods("auth")[0]["metadata"]["uid"]
    before = {p["metadata"]["name"] for p in kube.pods()}
    killed = pod_actions.terminate_pods(all=True, grace_period=0, **APP)
    assert set(killed) == before
    assert deployment_probes.deployment_fully_available("file", ns=NAMESPACE, timeout=10)
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert before.isdisjoint(p["metadata"]["name"] for p in kube.pods())
    assert kube.pods("auth")[0]["metadata"]["uid"] == other


def test_pod_probes_tell_the_truth(kube: LabCluster) -> None:
    assert pod_probes.count_pods(phase="Running", **APP) == 2
    assert pod_probes.count_pods(label_selector="app notin (file)", ns=NAMESPACE) == 0
    assert pod_probes.pods_in_phase(**APP)
    ready = [{"type": "Ready", "status": "True"}]
    assert pod_probes.pods_in_conditions(conditions=ready, **APP)
    with pytest.raises(ActivityFailed):
        pod_probes.pods_in_phase(label_selector="app=nobody", ns=NAMESPACE)
    logs = pod_probes.read_pod_logs(last="10 minutes", **APP)
    assert len(logs) == 2
    assert all("listens" in text for text in logs.values())


def test_exec_in_pods_runs_a_command_in_each(kube: LabCluster) -> None:
    done = pod_actions.exec_in_pods(
        ["sh", "-c", "echo $VERSION"], container_name="file", all=True, **APP
    )
    assert [(d["exit_code"], d["stdout"].strip()) for d in done] == [(0, "v1"), (0, "v1")]
    failed = pod_actions.exec_in_pods(["sh", "-c", "exit 4"], container_name="file", **APP)
    assert failed[0]["exit_code"] == "4"


def test_deployments_are_scaled_rolled_out_and_lose_their_replica_set(kube: LabCluster) -> None:
    deployment_actions.scale_deployment("file", replicas=3, ns=NAMESPACE)
    assert deployment_probes.deployment_fully_available("file", ns=NAMESPACE, timeout=10)
    wait_until(lambda: len(kube.endpoints()) == 3)
    assert deployment_probes.deployment_available_and_healthy("file", ns=NAMESPACE)
    before = {p["metadata"]["uid"] for p in kube.pods()}
    deployment_actions.rollout_deployment("file", ns=NAMESPACE)
    wait_until(lambda: before.isdisjoint(p["metadata"]["uid"] for p in kube.pods()))
    wait_until(lambda: len(kube.endpoints()) == 3)
    before = {p["metadata"]["uid"] for p in kube.pods()}
    delete_replica_set(**APP)
    wait_until(lambda: len(kube.endpoints()) == 3)
    wait_until(lambda: before.isdisjoint(p["metadata"]["uid"] for p in kube.pods()))


def test_nodes_are_listed_cordoned_drained_and_deleted(
    kube: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The extension waits ten seconds between two looks at a draining node.
    hurried = SimpleNamespace(time=time.time, sleep=lambda duration_s: time.sleep(0.05))
    monkeypatch.setattr(node_actions, "time", hurried)
    assert [n["metadata"]["name"] for n in get_nodes()["items"]] == ["node-1", "node-2"]
    node_actions.cordon_node(name="node-1")
    assert kube.call(kube.cluster.get, "Node", "", "node-1")["spec"]["unschedulable"] is True
    node_actions.uncordon_node(name="node-1")
    node_actions.drain_nodes(name="node-2", timeout=15)
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert {p["spec"]["nodeName"] for p in kube.pods()} == {"node-1"}
    node_actions.uncordon_node(name="node-2")
    deleted = node_actions.delete_nodes(label_selector="kubernetes.io/hostname=node-1")
    assert deleted == ["node-1"]
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert {p["spec"]["nodeName"] for p in kube.pods()} == {"node-2"}


def test_services_policies_and_events_are_served(kube: LabCluster) -> None:
    assert service_is_initialized("file", ns=NAMESPACE)
    deny_all_ingress(ns=NAMESPACE)
    policies = kube.call(
        kube.cluster.list, "NetworkPolicy", NAMESPACE, api_version="networking.k8s.io/v1"
    )
    assert [p["metadata"]["name"] for p in policies] == ["chaostoolkit-deny-all-ingress"]
    remove_deny_all_ingress(ns=NAMESPACE)
    reasons = {e["reason"] for e in get_events()["items"]}
    assert {"Scheduled", "Started", "ScalingReplicaSet"} <= reasons
