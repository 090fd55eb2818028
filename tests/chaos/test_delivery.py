"""Delivering a version or stopping a service, and taking it back, by a real Kubernetes API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.chaos import probes
from harness.chaos import session as sessions
from harness.chaos.actions import delivery, services
from harness.chaos.actions.undo import undo_all
from harness.chaos.registry import Reach, undo_function
from harness.chaos.session import Session
from harness.chaos.undo import open_records
from harness.clock import SystemClock
from harness.errors import Refused
from harness.lab.kube.runner import SubprocessRunner
from harness.target import rollouts
from harness.target.kube import patch_json
from harness.target.model import Cluster, Target
from harness.watch.rollouts import Deliveries
from tests.lab.kube.kube_world import NAMESPACE, LabCluster, deployment, service, wait_until

A = "us-east-1a"
CANARY = {
    "stableService": "gateway",
    "canaryService": "gateway-canary",
    "trafficRouting": {"alb": {"ingress": "gateway"}},
    "scaleDownDelaySeconds": 1,
    "abortScaleDownDelaySeconds": 1,
}


def rollout(app: str, strategy: dict[str, Any]) -> dict[str, Any]:
    made = without_probe(deployment(app, 1))
    made["spec"]["strategy"] = strategy
    return {**made, "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}


def without_probe(made: dict[str, Any]) -> dict[str, Any]:
    del made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    made["metadata"]["labels"] = {"chaos": "allowed"}
    return made


@pytest.fixture()
def kube(tmp_path: Path) -> Iterator[LabCluster]:
    """Pods that do nothing: a gateway by canary, and a file service."""
    runner = SubprocessRunner(["sleep", "60"])
    made = LabCluster(tmp_path, 15, runner=runner, start_delay_s=0.0)
    try:
        for app in ("gateway", "gateway-canary"):
            made.apply(service(app))
        steps = [{"setWeight": 50}, {"pause": {}}]
        made.apply(rollout("gateway", {"canary": {**CANARY, "steps": steps}}))
        made.apply(without_probe(deployment("file", 1)))
        wait_until(lambda: seen(made, f"rollout:{A}/gateway").get("stable"))
        wait_until(lambda: seen(made, f"deployment:{A}/file")["available"] == 1)
        yield made
    finally:
        made.close()


def target(kube: LabCluster) -> Target:
    return Target(
        name="test",
        simulated=True,
        time_scale=10.0,
        service_url="http://127.101.1.1:8080",
        primary="us-east-1",
        standby="us-west-2",
        account="123456789012",
        regions=(),
        clusters=(Cluster(A, A, "us-east-1", A),),
        databases=(),
        namespace=NAMESPACE,
        kubeconfig=str(kube.kubeconfig),
        prometheus_url="http://127.101.0.90:9090",
    )


def seen(kube: LabCluster, subject: str) -> dict[str, Any]:
    """What the observer says of it."""
    made = target(kube)
    observer = Deliveries(made, made.clusters[0], 1.0)
    try:
        return dict(observer.poll()[subject])
    finally:
        observer.close()


@pytest.fixture()
def session(kube: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setattr(sessions, "is_watching", lambda run_dir: True)
    reach = Reach(target(kube))
    file = tmp_path / "target.yaml"
    made = Session(
        target_file=file,
        run_dir=tmp_path / "run",
        fault="new",
        clock=SystemClock(),
        reach=lambda path: reach,
    )
    sessions.use(made)
    yield made
    made.close()
    sessions.use(None)


def image_of(kube: LabCluster, kind: str, name: str, version: str) -> str:
    found = kube.call(kube.cluster.get, kind, NAMESPACE, name, api_version=version)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_version_that_is_being_tried_is_taken_back(kube: LabCluster, session: Session) -> None:
    subject = f"rollout:{A}/gateway"
    old = seen(kube, subject)
    assert (old["weight"], old["phase"], old["observed"]) == (0, "Healthy", True)
    made = delivery.deliver(A, "files/gateway:v2", rollout="gateway")
    assert made["targets"] == [subject]
    tried = wait_until(lambda: at_weight(kube, subject, 50))
    assert (tried["stable"], tried["strategy"]) == (old["stable"], "canary")
    assert tried["current"] != old["stable"]
    assert {version: len(pods) for version, pods in tried["pods"].items()} == {
        old["stable"]: 1,
        tried["current"]: 1,
    }
    assert undo_all()["undone"] == [made["undo"]]
    assert open_records(session.run_dir) == []
    back = seen(kube, subject)
    assert (back["current"], back["stable"], back["weight"]) == (old["stable"], old["stable"], 0)
    wait_until(lambda: list(seen(kube, subject)["pods"]) == [old["stable"]])


def test_an_app_is_ready_whatever_keeps_its_replicas(kube: LabCluster, session: Session) -> None:
    wait_until(lambda: probes.app_ready(A, "gateway") and probes.app_ready(A, "file"))
    # Of these nobody answers the readiness probe.
    kube.apply(deployment("image", 1))
    never_ready = deployment("auth", 1)["spec"]
    services = {"stableService": "auth", "canaryService": "auth-canary"}
    auth = rollout("auth", {"canary": {**CANARY, **services, "steps": [{"pause": {}}]}})
    auth["spec"]["template"] = never_ready["template"]
    kube.apply(auth)
    wait_until(lambda: seen(kube, f"deployment:{A}/image")["wanted"] == 1)
    assert not probes.app_ready(A, "image")
    assert not probes.app_ready(A, "auth")
    with pytest.raises(Refused, match="no Deployment and no Rollout of us-east-1a/"):
        probes.app_ready(A, "gatewa")


def at_weight(kube: LabCluster, subject: str, weight: float) -> dict[str, Any] | None:
    value = seen(kube, subject)
    return value if value["weight"] == weight else None


def test_a_version_that_is_everybodys_is_taken_back_without_steps(
    kube: LabCluster, session: Session
) -> None:
    subject = f"rollout:{A}/gateway"
    old = seen(kube, subject)["stable"]
    delivery.deliver(A, "files/gateway:v2", rollout="gateway")
    change = {"status": {"promoteFull": True}}
    path = f"{rollouts.path(NAMESPACE, 'gateway')}/status"
    patch_json(session.reach.kubernetes(A), path, change, "application/merge-patch+json")
    wait_until(lambda: seen(kube, subject)["stable"] != old)
    assert undo_all()["failed"] == []
    assert (seen(kube, subject)["stable"], seen(kube, subject)["phase"]) == (old, "Healthy")


def test_a_deployment_is_rolled_and_rolled_back(kube: LabCluster, session: Session) -> None:
    subject = f"deployment:{A}/file"
    before = seen(kube, subject)
    delivery.deliver(A, "files/file:v2", deployment="file", container="file")
    wait_until(lambda: seen(kube, subject)["revision"] != before["revision"])
    assert undo_all()["failed"] == []
    assert image_of(kube, "Deployment", "file", "apps/v1") == "files/file:v1"
    after = seen(kube, subject)
    assert (after["updated"], after["total"], after["least"]) == (1, 1, 1)


def test_an_image_somebody_else_put_there_meanwhile_stays(
    kube: LabCluster, session: Session
) -> None:
    delivery.deliver(A, "files/file:v2", deployment="file")
    containers = [{"name": "file", "image": "files/file:v3"}]
    change = {"spec": {"template": {"spec": {"containers": containers}}}}
    kube.call(kube.cluster.patch, "Deployment", NAMESPACE, "file", change, api_version="apps/v1")
    undo_all()
    assert image_of(kube, "Deployment", "file", "apps/v1") == "files/file:v3"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"rollout": "nothing"}, "no rollout nothing"),
        ({"rollout": "gateway", "deployment": "file"}, "one of them"),
        ({}, "one of them"),
        ({"rollout": "gateway", "image": "files/gateway:v1"}, "already"),
        ({"rollout": "gateway", "container": "sidecar"}, "no container sidecar"),
    ],
)
def test_what_cannot_be_delivered_is_refused_and_nothing_touched(
    session: Session, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        delivery.deliver(**{"cluster": A, "image": "files/gateway:v2", **arguments})
    assert open_records(session.run_dir) == []


def test_what_its_owner_did_not_allow_is_not_delivered_to(
    kube: LabCluster, session: Session
) -> None:
    change = {"metadata": {"labels": {"chaos": "never"}}}
    kube.call(kube.cluster.patch, "Deployment", NAMESPACE, "file", change, api_version="apps/v1")
    with pytest.raises(Refused, match=f"deployment {A}/file lacks the label chaos=allowed"):
        delivery.deliver(A, "files/file:v2", deployment="file")


def test_a_rollout_in_the_middle_of_a_delivery_is_refused(
    kube: LabCluster, session: Session
) -> None:
    delivery.deliver(A, "files/gateway:v2", rollout="gateway")
    with pytest.raises(Refused, match="in the middle"):
        delivery.deliver(A, "files/gateway:v3", rollout="gateway")
    undo_all()


# ---- a service that is stopped ------------------------------------------------------------------


def replicas_of(kube: LabCluster, name: str) -> int:
    found = kube.call(kube.cluster.get, "Deployment", NAMESPACE, name, api_version="apps/v1")
    return int(found["spec"]["replicas"])


def ask_for(kube: LabCluster, name: str, replicas: int) -> None:
    change = {"spec": {"replicas": replicas}}
    kube.call(kube.cluster.patch, "Deployment", NAMESPACE, name, change, api_version="apps/v1")


def test_a_service_is_stopped_and_has_as_many_pods_as_before_again(
    kube: LabCluster, session: Session
) -> None:
    ask_for(kube, "file", 2)
    wait_until(lambda: seen(kube, f"deployment:{A}/file")["available"] == 2)
    made = services.stop_service(A, "file")
    assert made["targets"] == [f"deployment:{A}/file"]
    assert made["observed"] == 0 and replicas_of(kube, "file") == 0
    (record,) = open_records(session.run_dir)
    assert record.before["replicas"] == 2
    assert undo_all()["undone"] == [made["undo"]]
    assert replicas_of(kube, "file") == 2 and open_records(session.run_dir) == []
    assert seen(kube, f"deployment:{A}/file")["available"] == 2


def test_a_number_of_pods_that_somebody_else_asks_for_meanwhile_stays(
    kube: LabCluster, session: Session
) -> None:
    made = services.stop_service(A, "file")
    ask_for(kube, "file", 3)
    assert undo_all()["undone"] == [made["undo"]]
    assert replicas_of(kube, "file") == 3


def test_undoing_a_stop_that_was_never_made_changes_nothing(
    kube: LabCluster, session: Session
) -> None:
    undo = undo_function(services.UNDO_KIND)
    where = {"cluster": A, "namespace": NAMESPACE, "kind": "deployment", "name": "file"}
    before = {**where, "replicas": 5}
    undo.restore(before, session.reach)
    assert replicas_of(kube, "file") == 1
    assert undo.read_back(before, session.reach).holds
    (line,) = undo.by_hand(before, None)
    assert line.endswith("scale deployment/file --replicas=5") and f"--context {A}" in line


def test_what_cannot_be_stopped_is_refused_and_nothing_touched(
    kube: LabCluster, session: Session
) -> None:
    with pytest.raises(Refused, match="no deployment nothing"):
        services.stop_service(A, "nothing")
    ask_for(kube, "file", 0)
    with pytest.raises(Refused, match="asked for no pods already"):
        services.stop_service(A, "file")
    change = {"spec": {"replicas": 1}, "metadata": {"labels": {"chaos": "never"}}}
    kube.call(kube.cluster.patch, "Deployment", NAMESPACE, "file", change, api_version="apps/v1")
    with pytest.raises(Refused, match=f"deployment {A}/file lacks the label chaos=allowed"):
        services.stop_service(A, "file")
    assert open_records(session.run_dir) == [] and replicas_of(kube, "file") == 1


# ---- what is seen of them -----------------------------------------------------------------------


def test_without_traffic_routing_the_weight_is_that_of_the_pods() -> None:
    status = {"currentPodHash": "b", "stableRS": "a", "replicas": 4, "updatedReplicas": 1}
    item = {"metadata": {"generation": 3}, "spec": {"strategy": {"canary": {}}}, "status": status}
    assert rollouts.rollout_seen(item, [])["weight"] == 25.0
    assert rollouts.rollout_seen(item, [])["observed"] is False


@pytest.mark.parametrize(
    ("strategy", "least"),
    [
        ({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, 10),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}}, 8),
        ({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, 9),
        ({}, 8),
        ({"type": "Recreate"}, 0),
    ],
)
def test_a_strategy_says_how_many_pods_stay_available(strategy: Any, least: int) -> None:
    item = {"metadata": {"generation": 1}, "spec": {"replicas": 10, "strategy": strategy}}
    assert rollouts.deployment_seen(item)["least"] == least


def test_a_cluster_without_argo_rollouts_is_asked_once(
    kube: LabCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = target(kube)
    observer = Deliveries(made, made.clusters[0], 1.0)
    asked: list[str] = []
    get: Callable[..., Any] = observer.get

    def recorded(path: str, **query: Any) -> Any:
        asked.append(path)
        return get(path.replace("argoproj.io", "not.there"), **query)

    monkeypatch.setattr(observer, "get", recorded)
    for _ in range(2):
        assert list(observer.poll()) == [f"deployment:{A}/file"]
    assert sum("argoproj.io" in path for path in asked) == 1
    observer.close()
