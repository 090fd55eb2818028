"""What looking, breaking and giving back really ask of AWS and Kubernetes is what ``ci/`` grants.

Everything the harness can do is done once, against real APIs, with the documents enforced. Then
each document is held against what was asked: nothing of it is missing, nothing of it was not
needed, and what is beside a request (another region, account, VPC, zone, namespace, a subnet
without its tag) is denied.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from harness.chaos import blast, probes, registry
from harness.chaos import session as sessions
from harness.chaos.actions import delivery, network, pods
from harness.chaos.conditions import NothingHeard, look_of
from harness.chaos.recover import run_folder
from harness.chaos.registry import Reach, reach_for
from harness.chaos.session import Session
from harness.clock import SystemClock
from harness.lab.kube.runner import SubprocessRunner
from harness.plan import read_plan
from harness.plan.functions import ACTIONS
from harness.plan.guards import Guard
from harness.target import connect, rollouts
from harness.target.expected import expected
from harness.target.kube import patch_json
from harness.target.model import PURPOSES, Cluster, Target
from harness.target.preflight import preflight
from harness.target.prometheus import PrometheusGap
from harness.target.reader import read_target, write_target
from harness.watch.aws_observer import AwsObserver
from harness.watch.kubernetes import ClusterObserver
from harness.watch.observers import autoscalers, observers
from tests.lab.kube.kube_world import LabCluster, deployment, service, wait_until

from .policies import Asked, Request, Right, allowed, rights, unused
from .recording import RUNNER, Aws, Kubernetes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/target-example.yaml"
A, EAST, WEST = "us-east-1a", "us-east-1", "us-west-2"
RUNNERS = "harness-runners"
#: What an action breaks is undone, or seen to come back, by these.
UNDO_KINDS = {delivery.UNDO_KIND, network.UNDO_KIND, pods.UNDO_KIND}
NAMES = [*PURPOSES, RUNNER]


# ── doing everything once ──────────────────────────────────────────────────────────────


class World:
    """The target of docs/target-example.yaml on a real AWS API and a real Kubernetes API."""

    def __init__(self, url: str, kube: LabCluster, folder: Path) -> None:
        self._url = url
        self.kube = kube
        self._named: dict[str, str] = {}
        example = read_target(EXAMPLE)
        assert example.undo_copy is not None
        self.client("s3", EAST).create_bucket(Bucket=example.undo_copy.split("/")[2])
        self.target = replace(
            example,
            service_url="http://127.107.1.1:9",
            edge_url=None,
            prometheus_url="http://127.107.0.90:9",
            alertmanager_url=None,
            alert_receivers=None,
            dns_server="127.107.0.53:9",
            db_writer_host=None,
            aws_endpoint_url=url,
            environment={"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"},
            kubeconfig=str(kube.kubeconfig),
            clusters=(Cluster(A, A, EAST, A),),
            regions=tuple(self._region(region) for region in example.regions),
            hosted_zone_id=self._renamed(example.hosted_zone_id, self._hosted_zone()),
        )
        self.file = folder / "target.yaml"
        write_target(self.target, self.file)

    def client(self, service: str, region: str) -> Any:
        """A client of somebody who may do everything, and is not recorded."""
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self._url,
            aws_access_key_id="admin",
            aws_secret_access_key="admin",
        )

    def document(self, name: str) -> dict[str, Any]:
        """A document of ``ci/aws``, with the ids of the example replaced by those here."""
        text = (ROOT / f"ci/aws/{name}.json").read_text()
        for example, here in self._named.items():
            text = text.replace(example, here)
        document: dict[str, Any] = json.loads(text)
        return document

    def _renamed(self, example: str | None, here: str) -> str:
        assert example is not None
        self._named[example] = here
        return here

    def _region(self, region: Any) -> Any:
        ec2, elb = self.client("ec2", region.name), self.client("elbv2", region.name)
        vpc = self._renamed(
            region.vpc_id, ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        )
        subnets = {}
        for number, (zone, (example,)) in enumerate(region.subnets.items()):
            made = ec2.create_subnet(
                VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone
            )["Subnet"]["SubnetId"]
            ec2.create_tags(Resources=[made], Tags=[{"Key": "chaos", "Value": "allowed"}])
            subnets[zone] = (self._renamed(example, made),)
        group = elb.create_target_group(
            Name="gateway", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="instance"
        )["TargetGroups"][0]["TargetGroupArn"]
        instance = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)["Instances"][0]
        elb.register_targets(TargetGroupArn=group, Targets=[{"Id": instance["InstanceId"]}])
        check = self.client("route53", EAST).create_health_check(
            CallerReference=region.name,
            HealthCheckConfig={
                "IPAddress": "192.0.2.1", "Port": 80, "Type": "HTTP", "ResourcePath": "/",
                "RequestInterval": 10, "FailureThreshold": 3,
            },
        )["HealthCheck"]["Id"]  # fmt: skip
        return replace(
            region,
            health_check_id=self._renamed(region.health_check_id, check),
            target_group_arn=group,
            vpc_id=vpc,
            subnets=subnets,
        )

    def _hosted_zone(self) -> str:
        zone = self.client("route53", EAST).create_hosted_zone(
            Name="example.com", CallerReference="access"
        )
        return str(zone["HostedZone"]["Id"].rpartition("/")[2])


@dataclass
class Record:
    """What was asked, and the documents it was asked under."""

    world: World
    aws: Aws
    kubernetes: Kubernetes
    objects: list[dict[str, Any]]


@pytest.fixture(scope="module")
def record(aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    folder = tmp_path_factory.mktemp("access")
    runner = SubprocessRunner(["sleep", "120"])
    kube = LabCluster(folder, 16, runner=runner, start_delay_s=0.0)
    objects = list(yaml.safe_load_all((ROOT / "ci/kubernetes/access.yaml").read_text()))
    with pytest.MonkeyPatch.context() as patch:
        try:
            world = World(aws_url, kube, folder)
            documents = {name: world.document(name) for name in NAMES}
            unrecorded = {region: world.client("ec2", region) for region in (EAST, WEST)}
            aws = Aws(
                documents, world.document("trust"), world.target.account, unrecorded.__getitem__
            )
            asked = Kubernetes(rights(objects), RUNNERS)
            _furnish(kube, world.target)
            aws.install(patch)
            asked.install(patch)
            patch.setattr(sessions, "is_watching", lambda run_dir: True)
            patch.setenv("KUBECONFIG", str(kube.kubeconfig))
            # The client reads it once, when it is imported.
            default = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
            patch.setattr(default, str(kube.kubeconfig))
            _observe(world.target)
            _inject_and_undo(world, folder / "runs/day/now")
            yield Record(world, aws, asked, objects)
        finally:
            sessions.use(None)
            reach_for.cache_clear()
            kube.close()


def _furnish(kube: LabCluster, target: Target) -> None:
    """A gateway by canary and a file service, of pods that do nothing."""
    for app in ("gateway", "gateway-canary"):
        kube.apply(service(app))
    services = {"stableService": "gateway", "canaryService": "gateway-canary"}
    canary = {
        **services,
        "trafficRouting": {"alb": {"ingress": "gateway"}},
        "steps": [{"setWeight": 50}, {"pause": {}}],
    }
    gateway = _idle(deployment("gateway", 1))
    gateway["spec"]["strategy"] = {"canary": canary}
    kube.apply({**gateway, "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"})
    kube.apply(_idle(deployment("file", 1)))
    wait_until(lambda: len(_ready(kube, "file")) == len(_ready(kube, "gateway")) == 1)
    stable = lambda: _rollout(kube)["status"].get("stableRS")  # noqa: E731
    wait_until(stable)


def _idle(made: dict[str, Any]) -> dict[str, Any]:
    del made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    made["metadata"]["labels"] = {"chaos": "allowed"}
    made["spec"]["template"]["metadata"]["labels"]["chaos"] = "allowed"
    return made


def _ready(kube: LabCluster, app: str) -> list[Any]:
    return [p for p in kube.pods(app) if (p.get("status") or {}).get("phase") == "Running"]


def _rollout(kube: LabCluster) -> dict[str, Any]:
    found: dict[str, Any] = kube.call(
        kube.cluster.get, "Rollout", "files", "gateway", api_version="argoproj.io/v1alpha1"
    )
    return found


def _observe(target: Target) -> None:
    """Every observer, preflight, what is expected, every kind of stop condition, every probe."""
    plan = read_plan(ROOT / "experiments/gamedays/lab.yaml")
    connect.check_account(target)
    preflight(target)
    expected(target)
    for observer in [*observers(target), *autoscalers(target)]:
        if isinstance(observer, (AwsObserver, ClusterObserver)):
            # Without an answer of CloudWatch replication is asked of a Prometheus that is not here.
            with suppress(PrometheusGap):
                observer.poll()
            observer.close()
    for region in (EAST, WEST):
        with pytest.raises(NothingHeard):
            look_of(Guard("alarm", "checkout-5xx", 1, region=region), plan, target)()
        # The API here has none: that it was asked for is what counts.
        with suppress(Exception):
            look_of(Guard("safety_lever", region, 1), plan, target)()
    with suppress(Exception):
        look_of(Guard("parameter", "/gameday/state", 1), plan, target)()
    aim = blast.Aim("zone", "isolate_zone", target.regions[0].subnets[A], None)
    assert blast.inside([aim], Reach(target)) == []
    _stock_probes(target)


def _stock_probes(target: Target) -> None:
    """Those that experiments here name; they find the cluster by the kubeconfig."""
    from chaosk8s.deployment.probes import deployment_fully_available

    named = set()
    for file in (ROOT / "experiments").rglob("*.json"):
        text = file.read_text()
        named |= set(re.findall(r'"module": "(chaos(?:k8s|aws)[^"]*)",\s*"func": "([^"]*)"', text))
    assert named == {("chaosk8s.deployment.probes", "deployment_fully_available")}
    secrets = {"KUBERNETES_CONTEXT": A}
    assert deployment_fully_available("file", ns=target.namespace, timeout=5, secrets=secrets)


def _inject_and_undo(world: World, run_dir: Path) -> None:
    """Every action and every undo; one undo by the log in S3."""
    target, kube = world.target, world.kube
    reach_for.cache_clear()
    session = Session(target_file=world.file, run_dir=run_dir, fault="all", clock=SystemClock())
    sessions.use(session)
    assert probes.app_ready(A, "file")
    reach_for(str(world.file)).to("undo").warm()
    done = {
        network.isolate_zone: {"zone": A},
        network.isolate_region: {"region": WEST},
        pods.kill_pods: {"cluster": A, "app": "file"},
        delivery.deliver: {"cluster": A, "image": "files/gateway:v2", "rollout": "gateway"},
    }
    harmless = blast._HARMLESS
    assert {f"{f.__module__}.{f.__name__}" for f in done} == set(ACTIONS) - harmless
    registry.undo_function(network.UNDO_KIND)
    assert set(registry._functions) >= UNDO_KINDS
    kinds = {k for k in registry._functions if k.split(".")[0] in ("delivery", "network", "pods")}
    assert kinds == UNDO_KINDS
    for action, arguments in done.items():
        action(**arguments)  # type: ignore[operator]
    # A version that is everybody's already is taken back in another way.
    change = {"status": {"promoteFull": True}}
    admin = connect.kubernetes(replace(target, access=None), A)
    # As Argo's own command does; nobody of the harness.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kubernetes, "_check", lambda *_: None)
        path = f"{rollouts.path('files', 'gateway')}/status"
        patch_json(admin, path, change, "application/merge-patch+json")
    wait_until(lambda: _rollout(kube)["status"]["stableRS"] == _rollout(kube)["status"]["currentPodHash"])
    assert session.undo_all().failed == ()
    delivery.deliver(A, "files/file:v2", deployment="file")
    where = f"{target.undo_copy}/{run_dir.parent.name}/{run_dir.name}/undo.jsonl"
    scratch = run_dir.parent / "scratch"
    scratch.mkdir()
    with run_folder(where, world.file, scratch) as log:
        assert session.run_dir != log
    assert session.undo_all().failed == ()
    session.close()


def test_nothing_that_is_done_is_denied(record: Record) -> None:
    assert record.aws.denied == []
    assert record.kubernetes.denied == []
