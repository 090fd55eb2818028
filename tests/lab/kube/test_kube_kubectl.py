"""kubectl works unmodified: the current one, and an older one where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.kube.kube_world import NAMESPACE, LabCluster, deployment, wait_until

CURRENT = str(Path(sys.executable).with_name("kubectl"))
_SYSTEM = shutil.which("kubectl", path="/usr/local/bin:/usr/bin")
BINARIES = [CURRENT, *([_SYSTEM] if _SYSTEM else [])]

pytestmark = pytest.mark.parametrize("binary", BINARIES)


def test_get_and_describe_show_what_is_there(kube: LabCluster, binary: str) -> None:
    def run(*args: str) -> str:
        return kube.kubectl("-n", NAMESPACE, *args, binary=binary)

    assert "deployments" in run("api-resources")
    wide = run("get", "pods", "-o", "wide")
    assert "1/1" in wide
    assert "node-1" in wide
    assert "2/2" in run("get", "deploy", "file")
    assert "replicaset.apps/file-" in run("get", "all")
    pod = kube.pods()[0]["metadata"]["name"]
    described = run("describe", "pod", pod)
    assert "http-get http://:8080/ready" in described
    assert "Started container file" in described
    assert "aws:///us-east-1a/i-01" in run("describe", "node", "node-1")
    assert "successfully progressed" in run("get", "deploy", "file", "-o", "yaml")
    assert pod in run("get", "pods", "-l", "app in (file)", "--field-selector=status.phase=Running")


def test_a_deployment_is_applied_updated_undone_and_deleted(kube: LabCluster, binary: str) -> None:
    def run(*args: str, stdin: str = "") -> str:
        return kube.kubectl("-n", NAMESPACE, *args, binary=binary, stdin=stdin)

    status = "rollout", "status", "deploy/auth", "--timeout=20s"
    assert "created" in run("apply", "-f", "-", stdin=json.dumps(deployment("auth")))
    assert "successfully rolled out" in run(*status)
    assert "configured" in run(
        "apply", "-f", "-", stdin=json.dumps(deployment("auth", version="v2"))
    )
    run(*status)
    image = "get", "deploy", "auth", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    assert run(*image).strip() == "files/auth:v2"
    run("rollout", "undo", "deploy/auth")
    run(*status)
    assert run(*image).strip() == "files/auth:v1"
    history = run("rollout", "history", "deploy/auth").split()
    assert "3" in history
    assert "1" not in history
    run("rollout", "restart", "deploy/auth")
    run(*status)
    run("set", "image", "deploy/auth", "auth=files/auth:v3")
    run(*status)
    assert run(*image).strip() == "files/auth:v3"
    run("scale", "deploy/auth", "--replicas=3")
    run("wait", "--for=jsonpath={.status.readyReplicas}=3", "deploy/auth", "--timeout=10s")
    run("delete", "deploy", "auth")
    wait_until(lambda: not kube.pods("auth"))


def test_server_side_apply_label_and_json_patch_change_the_object(
    kube: LabCluster, binary: str
) -> None:
    def run(*args: str, stdin: str = "") -> str:
        return kube.kubectl("-n", NAMESPACE, *args, binary=binary, stdin=stdin)

    manifest = json.dumps(deployment("file", 3))
    assert "serverside-applied" in run("apply", "--server-side", "-f", "-", stdin=manifest)
    wait_until(lambda: len(kube.endpoints()) == 3)
    run("label", "deploy", "file", "team=red")
    assert "file" in run("get", "deploy", "-l", "team=red", "-o", "name")
    patch = '[{"op":"replace","path":"/spec/replicas","value":1}]'
    run("patch", "deploy", "file", "--type=json", "-p", patch)
    wait_until(lambda: len(kube.endpoints()) == 1)


def test_logs_and_exec_reach_the_process(kube: LabCluster, binary: str) -> None:
    def run(*args: str, check: bool = True, stdin: str = "") -> str:
        return kube.kubectl("-n", NAMESPACE, *args, binary=binary, check=check, stdin=stdin)

    pod = kube.pods()[0]["metadata"]["name"]
    assert f"pod {pod} version v1 listens" in run("logs", pod, "--timestamps", "--since=60s")
    assert run("exec", pod, "--", "sh", "-c", "echo $POD_NAME").strip() == pod
    assert "exit code 7" in run("exec", pod, "--", "sh", "-c", "exit 7", check=False)
    assert run("exec", "-i", pod, "--", "cat", stdin="typed").strip() == "typed"
    assert "no-such-command" in run("exec", pod, "--", "no-such-command", check=False)


def test_a_watch_and_followed_logs_end_when_their_pod_does(kube: LabCluster, binary: str) -> None:
    pod = kube.pods()[0]["metadata"]["name"]
    env = {**os.environ, "KUBECONFIG": str(kube.kubeconfig), "HOME": str(kube.folder)}
    common = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    follow = subprocess.Popen([binary, "logs", "-f", pod, "-n", NAMESPACE], **common)
    watch = subprocess.Popen([binary, "get", "pods", "-w", "-n", NAMESPACE], **common)
    try:
        assert "listens" in follow.stdout.readline()
        assert "NAME" in watch.stdout.readline()
        kube.kubectl("delete", "pod", pod, "-n", NAMESPACE, binary=binary)
        follow.communicate(timeout=10)
        wait_until(lambda: "Terminating" in watch.stdout.readline())
    finally:
        for process in (follow, watch):
            process.kill()
            process.communicate()


def test_a_drain_respects_the_disruption_budget(kube: LabCluster, binary: str) -> None:
    def run(*args: str, check: bool = True, stdin: str = "") -> str:
        return kube.kubectl(*args, binary=binary, check=check, stdin=stdin)

    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "file", "namespace": NAMESPACE},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "file"}}},
    }
    kube.apply(budget)
    assert "SchedulingDisabled" in run("cordon", "node-1") + run("get", "nodes")
    pod = next(p for p in kube.pods() if p["spec"]["nodeName"] == "node-1")["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    raw = "create", "--raw", path, "-f", "-"
    assert "disruption budget" in run(*raw, check=False, stdin=json.dumps(eviction))
    assert pod in {p["metadata"]["name"] for p in kube.pods()}
    kube.apply({**budget, "spec": {"minAvailable": 1}})
    run("drain", "node-1", "--ignore-daemonsets", "--timeout=15s")
    wait_until(lambda: len(kube.endpoints()) == 2)
    assert {p["spec"]["nodeName"] for p in kube.pods()} == {"node-2"}
    run("uncordon", "node-1")
    assert "SchedulingDisabled" not in run("get", "nodes")


def test_a_namespace_is_deleted_with_everything_in_it(kube: LabCluster, binary: str) -> None:
    kube.kubectl("delete", "ns", NAMESPACE, "--timeout=20s", binary=binary)
    assert kube.pods() == []
    assert kube.call(kube.cluster.pod_pids) == {}
    assert kube.call(kube.cluster.get, "Namespace", "", NAMESPACE) is None
