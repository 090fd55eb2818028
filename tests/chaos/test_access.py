"""What looking, breaking and giving back really ask of AWS and Kubernetes is what ``ci/`` grants.

Everything the harness can do is done once, against real APIs, with the documents enforced. Then
each document is held against what was asked: nothing of it is missing, nothing of it was not
needed, and what is beside a request (another region, account, VPC, zone, namespace, a subnet
without its tag) is denied.
"""

from __future__ import annotations

import copy
import importlib
import json
import re
import urllib.request
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
from harness.chaos.actions import delivery, network, pods, services
from harness.chaos.conditions import NothingHeard, look_of
from harness.chaos.recover import run_folder
from harness.chaos.registry import Reach, reach_for
from harness.chaos.session import Session
from harness.chaos.undo import open_records
from harness.clock import SystemClock
from harness.lab.kube.runner import SubprocessRunner
from harness.plan import read_plan
from harness.plan.functions import ACTIONS
from harness.plan.guards import Guard
from harness.target import connect, rollouts
from harness.target.expected import expected
from harness.target.model import PURPOSES, Cluster, Target
from harness.target.preflight import preflight
from harness.target.prometheus import PrometheusGap
from harness.target.reader import read_target, write_target
from harness.watch.aws_observer import AwsObserver
from harness.watch.kubernetes import ClusterObserver
from harness.watch.observers import autoscalers, observers
from tests.lab.kube.kube_world import LabCluster, deployment, service, wait_until

from .policies import Asked, Request, allowed, grants, rights, unused
from .recording import RUNNER, Aws, Kubernetes

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/target-example.yaml"
A, EAST, WEST = "us-east-1a", "us-east-1", "us-west-2"
RUNNERS = "harness-runners"
NAMES = [*PURPOSES, RUNNER]


def document(name: str) -> dict[str, Any]:
    """A document of ``ci/aws``."""
    found: dict[str, Any] = json.loads((ROOT / f"ci/aws/{name}.json").read_text())
    return found


OBJECTS = list(yaml.safe_load_all((ROOT / "ci/kubernetes/access.yaml").read_text()))


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

    def here(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the ids of the example replaced by those here."""
        text = json.dumps(document)
        for example, here in self._named.items():
            text = text.replace(example, here)
        renamed: dict[str, Any] = json.loads(text)
        return renamed

    def _renamed(self, example: str | None, here: str) -> str:
        assert example is not None
        self._named[example] = here
        return here

    def _region(self, region: Any) -> Any:
        ec2, elb = self.client("ec2", region.name), self.client("elbv2", region.name)
        vpc = self._renamed(region.vpc_id, ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])
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


@pytest.fixture(scope="module")
def record(aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    folder = tmp_path_factory.mktemp("access")
    runner = SubprocessRunner(["sleep", "120"])
    kube = LabCluster(folder, 16, runner=runner, start_delay_s=0.0)
    with pytest.MonkeyPatch.context() as patch:
        try:
            world = World(aws_url, kube, folder)
            documents = {name: world.here(document(name)) for name in NAMES}
            unrecorded = {region: world.client("ec2", region) for region in (EAST, WEST)}
            aws = Aws(documents, document("trust"), world.target.account, unrecorded.__getitem__)
            asked = Kubernetes(rights(OBJECTS), RUNNERS)
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
            yield Record(world, aws, asked)
        finally:
            sessions.use(None)
            reach_for.cache_clear()
            kube.close()


def _furnish(kube: LabCluster, target: Target) -> None:
    """A gateway by canary, a file and an image service, of pods that do nothing."""
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
    for app in ("file", "image"):
        kube.apply(_idle(deployment(app, 1)))
    wait_until(lambda: all(len(_ready(kube, app)) == 1 for app in ("file", "gateway", "image")))
    wait_until(lambda: _is_stable(kube))


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


def _is_stable(kube: LabCluster) -> bool:
    """Whether the version that is asked for is everybody's."""
    item = _rollout(kube)
    status = item.get("status") or {}
    stable = status.get("stableRS")
    return rollouts.is_observed(item) and stable and stable == status.get("currentPodHash")


def _promote(kube: LabCluster) -> None:
    """The version is everybody's at once, as by Argo's own command: no request of the harness."""
    at = yaml.safe_load(kube.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    request = urllib.request.Request(
        f"{at}{rollouts.path('files', 'gateway')}/status",
        data=json.dumps({"status": {"promoteFull": True}}).encode(),
        headers={"Content-Type": "application/merge-patch+json"},
        method="PATCH",
    )
    urllib.request.urlopen(request, timeout=10).close()
    wait_until(lambda: _is_stable(kube))


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
    network.isolate_region(EAST)
    assert session.undo_all().failed == ()
    done = {
        network.isolate_zone: {"zone": A},
        network.isolate_region: {"region": WEST},
        pods.kill_pods: {"cluster": A, "app": "file"},
        delivery.deliver: {"cluster": A, "image": "files/gateway:v2", "rollout": "gateway"},
        services.stop_service: {"cluster": A, "deployment": "image"},
    }
    named = {f"{action.__module__}.{action.__name__}" for action in done}
    assert named == set(ACTIONS) - blast._HARMLESS
    for action, arguments in done.items():
        action(**arguments)  # type: ignore[operator]
    families = [importlib.import_module(family) for family in registry.FAMILIES]
    assert {r.undo_kind for r in open_records(run_dir)} == {f.UNDO_KIND for f in families}
    _promote(kube)
    assert session.undo_all().failed == ()
    delivery.deliver(A, "files/file:v2", deployment="file")
    where = f"{target.undo_copy}/{run_dir.parent.name}/{run_dir.name}/undo.jsonl"
    scratch = run_dir.parent / "scratch"
    scratch.mkdir()
    with run_folder(where, world.file, scratch) as log:
        assert session.run_dir != log
    assert session.undo_all().failed == ()
    session.close()


# ── holding the documents against it ───────────────────────────────────────────────────


def test_nothing_that_is_done_is_denied(record: Record) -> None:
    assert record.aws.denied == []
    assert record.kubernetes.denied == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_policy_grants_is_what_is_used(record: Record, name: str) -> None:
    assert wrong_policy(record, name, document(name)) == []


def test_a_role_is_assumed_by_the_runner_with_the_external_id_only(record: Record) -> None:
    assert {a.resource.rpartition("-")[2] for a in record.aws.trusted} == set(PURPOSES)
    for asked in record.aws.trusted:
        assert allowed(document("trust"), asked)
        assert not allowed(document("trust"), asked.without("sts:ExternalId"))
        assert not allowed(document("trust"), asked.having(**{"sts:ExternalId": "another"}))
    (statement,) = document("trust")["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:role/gameday-runner"}


def test_what_a_cluster_grants_is_what_is_used(record: Record) -> None:
    assert wrong_objects(record, OBJECTS) == []


@pytest.mark.parametrize("name", ["observe", "undo", RUNNER])
def test_only_who_injects_can_break(record: Record, name: str) -> None:
    for asked in record.aws.used["inject"]:
        if not asked.action.startswith("s3:"):
            assert not whole_call_allowed(record, name, asked)
    rights_of = [r for r in rights(OBJECTS) if r.user == f"harness/harness-{name}"]
    for request in record.kubernetes.used:
        if request.user == "harness/harness-inject" and request.verb == "delete":
            assert not any(replace(r, user=request.user).allows(request) for r in rights_of)


def whole_call_allowed(record: Record, name: str, asked: Asked) -> bool:
    """Whether all that the calls of this action need is allowed: IAM wants each part of it."""
    parts = [a for a in record.aws.used["inject"] if a.action == asked.action]
    return all(allowed(record.aws.documents[name], part) for part in parts)


# ── and changed documents too: each change must be noticed ─────────────────────────────


def policy_mutants(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A rule less, or one too many, in every place there is."""
    original = document(name)
    for number, statement in enumerate(original["Statement"]):
        sid = statement["Sid"]

        def changed(number: int = number, **changes: Any) -> dict[str, Any]:
            mutant = copy.deepcopy(original)
            mutant["Statement"][number] |= changes
            return mutant

        yield f"{sid} gone", {**original, "Statement": _less(original["Statement"], number)}
        for key in ("Action", "Resource"):
            if isinstance(statement[key], list):
                for index, value in enumerate(statement[key]):
                    yield f"{sid} without {value}", changed(**{key: _less(statement[key], index)})
        action = statement["Action"] if isinstance(statement["Action"], str) else "ec2:Describe"
        listed = (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
        yield f"{sid} and one more", changed(Action=[*listed, "ec2:TerminateInstances"])
        yield f"{sid} with all actions", changed(Action=f"{action.partition(':')[0]}:*")
        if statement["Resource"] != "*":
            yield f"{sid} everywhere", changed(Resource="*")
        for operator, keys in statement.get("Condition", {}).items():
            for key, values in keys.items():
                conditions = copy.deepcopy(statement["Condition"])
                del conditions[operator][key]
                yield f"{sid} whatever {key}", changed(Condition=conditions)
                for index, value in enumerate(values if isinstance(values, list) else ()):
                    conditions = copy.deepcopy(statement["Condition"])
                    conditions[operator][key] = _less(values, index)
                    yield f"{sid} without {value}", changed(Condition=conditions)
    more = {"Sid": "More", "Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"}
    yield "one more", {**original, "Statement": [*original["Statement"], more]}


def object_mutants() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for number, item in enumerate(OBJECTS):
        what = f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"

        def changed(number: int = number, **changes: Any) -> list[dict[str, Any]]:
            return [o | changes if n == number else o for n, o in enumerate(OBJECTS)]

        if item["kind"] != "Namespace":
            yield f"{what} gone", _less(OBJECTS, number)
        for index, rule in enumerate(item.get("rules", ())):

            def with_rule(
                rule: Any, index: int = index, changed: Any = changed, item: Any = item
            ) -> Any:
                rules = [rule if n == index else r for n, r in enumerate(item["rules"])]
                return changed(rules=rules)

            yield f"{what} rule {index} gone", changed(rules=_less(item["rules"], index))
            for key, values in rule.items():
                for n, value in enumerate(values if len(values) > 1 else ()):
                    less = {**rule, key: _less(values, n)}
                    yield f"{what} rule {index} without {value}", with_rule(less)
            for key, value in (("verbs", "create"), ("resources", "secrets"), ("verbs", "*")):
                more = {**rule, key: [*rule[key], value]}
                yield f"{what} rule {index} and {value}", with_rule(more)
            if "resourceNames" in rule:
                yield f"{what} whatever its name", with_rule(_without_key(rule, "resourceNames"))
        if "subjects" in item:
            everybody = {"kind": "Group", "name": "system:authenticated"}
            yield f"{what} for everybody", changed(subjects=[*item["subjects"], everybody])
        if item["kind"] == "Role":
            name = item["metadata"]["name"]
            everywhere = [o for o in OBJECTS if not _is_of(o, item)]
            metadata = {"name": f"{name}-all"}
            binding = next(o for o in OBJECTS if o["kind"] == "RoleBinding" and _is_of(o, item))
            ref = {"kind": "ClusterRole", "name": f"{name}-all"}
            role = {**item, "kind": "ClusterRole", "metadata": metadata}
            bound = {**binding, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": ref}
            yield f"{what} in every namespace", [*everywhere, role, bound]


def _is_of(item: Mapping[str, Any], role: Mapping[str, Any]) -> bool:
    """Whether it is the role, or its binding: they have one name here."""
    kinds = ("Role", "RoleBinding")
    return item["kind"] in kinds and item["metadata"] == role["metadata"]


def _less(values: list[Any], index: int) -> list[Any]:
    return values[:index] + values[index + 1 :]


def _without_key(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k != key}


POLICY_MUTANTS = [(name, *mutant) for name in NAMES for mutant in policy_mutants(name)]
OBJECT_MUTANTS = list(object_mutants())


@pytest.mark.parametrize(
    ("name", "mutant"),
    [pytest.param(name, mutant, id=f"{name}: {label}") for name, label, mutant in POLICY_MUTANTS],
)
def test_a_changed_policy_is_noticed(record: Record, name: str, mutant: dict[str, Any]) -> None:
    assert wrong_policy(record, name, mutant)


@pytest.mark.parametrize(
    "mutant", [pytest.param(mutant, id=label) for label, mutant in OBJECT_MUTANTS]
)
def test_changed_objects_are_noticed(record: Record, mutant: list[dict[str, Any]]) -> None:
    assert wrong_objects(record, mutant)


# ── what is wrong with a document ──────────────────────────────────────────────────────


def wrong_policy(record: Record, name: str, written: Mapping[str, Any]) -> list[str]:
    """What of the requests is denied, what of the document is not needed, what is too wide."""
    here = record.world.here(written)
    used = record.aws.used[name]
    found = [f"denied: {asked}" for asked in used if not allowed(here, asked)]
    found += [f"not needed: {grant}" for grant in unused(here, used)]
    found += [f"a pattern of actions: {g}" for g, _ in grants(here) if "*" in g[1]]
    found += [
        f"too wide: {other}"
        for asked in used
        for beside in (*BESIDE_ALL, *BESIDE[name])
        if (other := beside(asked)) is not None and other != asked and allowed(here, other)
    ]
    return found


def wrong_objects(record: Record, objects: list[dict[str, Any]]) -> list[str]:
    """The same of the roles of a cluster."""
    try:
        given = rights(objects)
    except (AssertionError, KeyError) as error:
        return [f"does not fit together: {error!r}"]
    used = set(record.kubernetes.used)

    def allows(request: Request) -> bool:
        return any(right.allows(request) for right in given)

    found = [f"denied: {request}" for request in used if not allows(request)]
    found += [f"not needed: {r}" for r in given if not any(r.allows(u) for u in used)]
    found += [f"a pattern: {r}" for r in given if "*" in (r.verb, r.group, r.resource)]
    beside = [replace(u, namespace="kube-system") for u in used if u.namespace]
    beside += [replace(u, name="default") for u in used if u.resource == "serviceaccounts"]
    return [*found, *(f"too wide: {request}" for request in beside if allows(request))]


Beside = Callable[[Asked], Asked | None]


def in_another_region(asked: Asked) -> Asked | None:
    resource = re.sub(r"^(arn:aws:\w+:)[\w-]+:", r"\1eu-west-1:", asked.resource)
    if asked.resource.startswith("arn:") and resource == asked.resource:
        return None  # of a service that is everywhere
    return replace(asked, resource=resource).having(**{"aws:RequestedRegion": "eu-west-1"})


def in_another_account(asked: Asked) -> Asked | None:
    return replace(asked, resource=asked.resource.replace(":123456789012:", ":999999999999:"))


def named_otherwise(kind: str) -> Beside:
    """The same asked of another thing of this kind."""
    found = re.compile(rf"(?<=[:/]){kind}/.+")
    return lambda asked: replace(asked, resource=found.sub(f"{kind}/another", asked.resource))


def in_s3(pattern: str, other: str) -> Beside:
    return lambda asked: replace(
        asked, resource=re.sub(rf"^(arn:aws:s3:::.*){pattern}", rf"\1{other}", asked.resource)
    )


def without(key: str, action: str | None = None) -> Beside:
    return lambda asked: asked.without(key) if action in (None, asked.action) else None


def otherwise(key: str, value: str, kind: str) -> Beside:
    """The same where a key of a thing of this kind has another value."""

    def beside(asked: Asked) -> Asked | None:
        known = key in asked.context and f":{kind}/" in asked.resource
        return asked.having(**{key: value}) if known else None

    return beside


def with_an_acl_of_ours(asked: Asked) -> Asked | None:
    if asked.action != REPLACE or ":network-acl/" not in asked.resource:
        return None
    return asked.having(**{"aws:ResourceTag/harness:undo": "zone-1"})


ANOTHER_VPC = "arn:aws:ec2:us-east-1:123456789012:vpc/another"
REPLACE = "ec2:ReplaceNetworkAclAssociation"
BESIDE_ALL: tuple[Beside, ...] = (in_another_region, in_another_account)
#: What must not be possible, by who asks: each changes one thing of a request that is made.
BESIDE: dict[str, tuple[Beside, ...]] = {
    "observe": (
        named_otherwise("healthcheck"),
        named_otherwise("hostedzone"),
        named_otherwise("parameter"),
        named_otherwise("safety-lever"),
    ),
    "inject": (
        named_otherwise("vpc"),
        in_s3("example-undo-logs", "another"),
        in_s3("harness/", "another/"),
        in_s3("undo.jsonl", "report.html"),
        without("aws:RequestTag/harness:undo", "ec2:CreateNetworkAcl"),
        without("ec2:CreateAction"),
        without("aws:ResourceTag/chaos"),
        otherwise("aws:ResourceTag/chaos", "never", "subnet"),
        otherwise("ec2:Vpc", ANOTHER_VPC, "subnet"),
        without("aws:ResourceTag/harness:undo"),
        otherwise("ec2:Vpc", ANOTHER_VPC, "network-acl"),
    ),
    "undo": (
        named_otherwise("subnet"),
        in_s3("example-undo-logs", "another"),
        in_s3("harness/", "another/"),
        in_s3("undo.jsonl", "report.html"),
        without("aws:ResourceTag/harness:undo"),
        with_an_acl_of_ours,
        otherwise("ec2:Vpc", ANOTHER_VPC, "network-acl"),
    ),
    RUNNER: (named_otherwise("role"),),
}


def test_an_undo_does_not_depend_on_the_tag(record: Record) -> None:
    """Whoever takes it off in the middle of a fault must not thereby keep the fault in place."""
    (one, *_) = [a for a in record.aws.used["undo"] if "aws:ResourceTag/chaos" in a.context]
    assert allowed(record.aws.documents["undo"], one.without("aws:ResourceTag/chaos"))
