"""Each observer turns what its source says into the subjects and values of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_standin import Standin, send, series, success
from sample_target import EAST, WEST, sample

from harness.clock import ManualClock, SystemClock
from harness.target import connect
from harness.target.expected import expected
from harness.target.kube import pods_by_app
from harness.target.model import Database, Target
from harness.target.preflight import preflight
from harness.target.route53 import health
from harness.watch.alertmanager import Alertmanager
from harness.watch.databases import Databases
from harness.watch.db_lag import DatabaseLag
from harness.watch.dns import DatabaseWriterName, ServiceName
from harness.watch.health_checks import HealthChecks
from harness.watch.kubernetes import Nodes, Pods
from harness.watch.observers import REAL, SCALED, observers
from harness.watch.prometheus import Alerts, PrometheusClock
from harness.watch.recorder import Unseen
from harness.watch.replication import Replication
from harness.watch.targets import Targets


class Answers:
    """An API client that answers each method with the next of a list (the last stays)."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answers = {k: v if isinstance(v, list) else [v] for k, v in answers.items()}

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append((name, arguments))
            left = self._answers[name]
            return left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture(scope="module")
def aws_target() -> Iterator[Target]:
    """A target whose AWS API is a real HTTP one (moto), with something of each kind in it."""
    from moto.moto_server.werkzeug_app import create_backend_app
    from moto.server import ThreadedMotoServer

    # What a service needs is loaded at its first request: on a busy machine for longer than a
    # client waits, who then asks for the same database again.
    for service in ("cloudwatch", "ec2", "elbv2", "rds", "route53"):
        create_backend_app(service)
    server = ThreadedMotoServer(ip_address="127.108.0.20", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield _furnished(sample(aws_endpoint_url=f"http://{host}:{port}"))
    finally:
        server.stop()


def _furnished(target: Target) -> Target:
    east, west = "us-east-1", "us-west-2"
    rds, rds_west = (connect.aws(target, "rds", r) for r in (east, west))
    common = {"DBInstanceClass": "db.m5.large", "Engine": "postgres"}
    rds.create_db_instance(
        DBInstanceIdentifier="files-db",
        AllocatedStorage=20,
        MasterUsername="lab",
        MasterUserPassword="laboratory",
        MultiAZ=True,
        AvailabilityZone="us-east-1a",
        **common,
    )
    rds_west.create_db_instance_read_replica(
        DBInstanceIdentifier="files-db-west",
        SourceDBInstanceIdentifier=f"arn:aws:rds:{east}:123456789012:db:files-db",
        AvailabilityZone="us-west-2a",
    )
    route53 = connect.aws(target, "route53", east)
    check = route53.create_health_check(
        CallerReference="east",
        HealthCheckConfig={
            "IPAddress": "192.0.2.1",
            "Port": 80,
            "Type": "HTTP",
            "ResourcePath": "/",
            "RequestInterval": 10,
            "FailureThreshold": 3,
        },
    )["HealthCheck"]["Id"]
    zone = route53.create_hosted_zone(Name="fileservice.lab", CallerReference="z")
    zone_id = zone["HostedZone"]["Id"].rpartition("/")[2]
    record = {
        "Name": "api.fileservice.lab",
        "Type": "A",
        "TTL": 20,
        "ResourceRecords": [{"Value": "127.108.1.1"}],
    }
    change = {"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    route53.change_resource_record_sets(HostedZoneId=zone_id, ChangeBatch=change)
    ec2 = connect.aws(target, "ec2", east)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = {}
    for octet, name in ((10, "us-east-1a"), (20, "us-east-1b")):
        subnet = ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"10.0.{octet}.0/24", AvailabilityZone=name
        )["Subnet"]["SubnetId"]
        subnets[name] = (subnet,)
        if name == "us-east-1a":
            ec2.create_tags(Resources=[subnet], Tags=[{"Key": "chaos", "Value": "allowed"}])
    elb = connect.aws(target, "elbv2", east)
    group = elb.create_target_group(
        Name="gw",
        Protocol="HTTP",
        Port=80,
        VpcId=vpc,
        TargetType="ip",
        HealthCheckIntervalSeconds=10,
        UnhealthyThresholdCount=2,
        HealthyThresholdCount=3,
    )["TargetGroups"][0]["TargetGroupArn"]
    region = replace(
        EAST, health_check_id=check, target_group_arn=group, vpc_id=vpc, subnets=subnets
    )
    return replace(target, regions=(region, WEST), hosted_zone_id=zone_id)


def test_databases_are_seen_with_role_status_zone_and_source(aws_target: Target) -> None:
    east, west = aws_target.regions
    assert Databases(aws_target, east, 1).poll() == {
        "db:files-db": {
            "role": "primary",
            "status": "available",
            "zone": "us-east-1a",
            "source": None,
        }
    }
    (replica,) = Databases(aws_target, west, 1).poll().values()
    assert (replica["role"], replica["source"]) == ("replica", "files-db")


def test_a_database_that_is_gone_is_absent_not_missing(aws_target: Target) -> None:
    target = replace(aws_target, databases=(Database("gone", "us-east-1", "us-east-1a"),))
    seen = Databases(target, aws_target.regions[0], 1).poll()
    assert seen["db:gone"]["status"] == "absent"
    assert seen["db:gone"]["role"] is None


def test_a_health_check_is_read_from_its_checkers(aws_target: Target) -> None:
    seen = HealthChecks(aws_target, aws_target.regions[0], 1).poll()
    assert seen == {"health_check:us-east-1": "healthy"}


@pytest.mark.parametrize(
    ("success_of_16", "value"),
    [(16, "healthy"), (3, "healthy"), (2, "unhealthy"), (0, "unhealthy")],
)
def test_a_health_check_is_unhealthy_at_18_percent_of_checkers(
    success_of_16: int, value: str
) -> None:
    words = ["Success: HTTP 200"] * success_of_16 + ["Failure: timed out"] * (16 - success_of_16)
    assert health([{"StatusReport": {"Status": word}} for word in words])[0] == value


def test_a_health_check_without_checkers_is_not_healthy() -> None:
    with pytest.raises(ValueError, match="no health checker"):
        health([])


def test_expected_times_are_read_from_the_live_api(aws_target: Target) -> None:
    found = expected(aws_target)
    assert found["health_check_red_s"]["value_s"] == 3.4
    assert found["dns_changed_s"]["value_s"] == 5.4
    assert found["health_check_green_s"]["value_s"] == 3
    assert found["zone_ejected_s"]["value_s"] == 2
    assert found["zone_back_s"]["value_s"] == 3
    assert found["db_failover_s"]["value_s"] == 12


def test_preflight_finds_the_untagged_subnet_and_calls_what_is_down_unknown(
    aws_target: Target,
) -> None:
    # Nothing listens at these: only AWS answers.
    target = replace(
        aws_target, dns_server="127.108.0.53:1", prometheus_url="http://127.108.0.90:1"
    )
    checks = {c.name: c for c in preflight(target)}
    assert checks["account"].ok is True
    assert checks["health check us-east-1"].ok is True
    subnets = checks["subnets us-east-1"]
    assert subnets.ok is False
    assert target.regions[0].subnets["us-east-1b"][0] in subnets.detail
    assert target.regions[0].subnets["us-east-1a"][0] not in subnets.detail
    for name in ("dns", "service", "prometheus", "alerts"):
        assert checks[name].ok is None
        assert checks[name].detail
    assert all(c.hint for c in checks.values() if c.ok is not True)


def _described(ip: str, state: str, zone: str | None = None) -> dict[str, Any]:
    target = {"Id": ip, "Port": 8080} | ({"AvailabilityZone": zone} if zone else {})
    return {"Target": target, "TargetHealth": {"State": state}}


def test_targets_are_counted_per_zone_by_what_the_answer_says_or_by_subnet() -> None:
    observer = Targets(sample(), EAST, 1)
    described = [
        _described("10.0.10.1", "healthy", "us-east-1a"),
        _described("10.0.10.2", "unhealthy"),
        _described("10.0.10.3", "draining", "us-east-1a"),
        _described("10.0.20.1", "initial", "all"),
    ]
    subnets = [
        {"CidrBlock": "10.0.10.0/24", "AvailabilityZone": "us-east-1a"},
        {"CidrBlock": "10.0.20.0/24", "AvailabilityZone": "us-east-1b"},
    ]
    observer._clients = {
        "elbv2": Answers(
            describe_target_health=[
                {"TargetHealthDescriptions": described},
                {"TargetHealthDescriptions": []},
            ]
        ),
        "ec2": Answers(describe_subnets={"Subnets": subnets}),
    }
    assert observer.poll() == {
        "targets:us-east-1a": {"healthy": 1, "total": 2},
        "targets:us-east-1b": {"healthy": 0, "total": 1},
    }
    assert observer.poll() == {
        "targets:us-east-1a": {"healthy": 0, "total": 0},
        "targets:us-east-1b": {"healthy": 0, "total": 0},
    }
    assert len(observer._clients["ec2"].calls) == 1


def test_replica_lag_comes_from_cloudwatch_newest_first(aws_target: Target) -> None:
    clock = SystemClock()
    observer = DatabaseLag(aws_target, aws_target.regions[1], 1, clock)
    assert observer.poll() == {}, "never published: nothing to say"
    now = clock.wall_s()
    for age_s, value in ((180, 9.0), (60, 1.26)):
        observer.client("cloudwatch").put_metric_data(
            Namespace="AWS/RDS",
            MetricData=[
                {
                    "MetricName": "ReplicaLag",
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "files-db-west"}],
                    "Timestamp": datetime.fromtimestamp(now - age_s, UTC),
                    "Value": value,
                }
            ],
        )
    assert observer.poll() == {"db_lag:files-db-west": 1.3}


def test_replication_comes_from_cloudwatch_where_it_is_published(aws_target: Target) -> None:
    clock = SystemClock()
    observer = Replication(aws_target, aws_target.regions[0], 1, clock)
    dimensions = [
        {"Name": "SourceBucket", "Value": "files-us-east-1"},
        {"Name": "DestinationBucket", "Value": "files-us-west-2"},
        {"Name": "RuleId", "Value": "all"},
    ]
    for metric, value in (("OperationsPendingReplication", 12), ("ReplicationLatency", 7.2)):
        observer.client("cloudwatch").put_metric_data(
            Namespace="AWS/S3",
            MetricData=[{"MetricName": metric, "Dimensions": dimensions, "Value": value}],
        )
    assert observer.poll() == {"replication:files-us-east-1": {"pending": 12, "lag_s": 7.0}}


def test_replication_falls_back_to_prometheus_and_its_absence_is_unseen() -> None:
    values = {"store_replication_pending": "4", "store_replication_lag_seconds": "1.6"}
    now = SystemClock().wall_s()

    def script(path, query, to, over) -> None:
        asked = query["query"]
        if asked.startswith("timestamp("):
            send(to, success([series(now, str(now), region="us-east-1")]))
        elif asked in values:
            other = series(now, "99", region="us-west-2")
            send(to, success([series(now, values[asked], region="us-east-1"), other]))
        else:
            send(to, success([]))

    standin = Standin(script)
    observer = Replication(sample(prometheus_url=standin.url), EAST, 1, SystemClock())
    observer._clients = {"cloudwatch": Answers(list_metrics={"Metrics": []})}
    try:
        assert observer.poll() == {"replication:files-us-east-1": {"pending": 4, "lag_s": 1.5}}
        values.clear()
        (value,) = observer.poll().values()
        assert isinstance(value, Unseen)
    finally:
        observer._reader.close()
        standin.close()


def test_names_are_reported_as_regions_and_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "A": ["127.108.3.1", "203.0.113.9"],
        "CNAME": ["files-db-west.us-west-2.rds.fileservice.lab"],
    }
    monkeypatch.setattr("harness.watch.dns.lookup", lambda target, name, kind: answers[kind])
    name = "dns:api.fileservice.lab"
    assert ServiceName(sample(), 1).poll() == {name: ["203.0.113.9", "us-west-2"]}
    writer = DatabaseWriterName(sample(), 1)
    assert writer.poll() == {"dns:db-writer.fileservice.lab": ["files-db-west"]}
    answers["CNAME"] = ["elsewhere.example.com"]
    assert writer.poll() == {"dns:db-writer.fileservice.lab": ["elsewhere.example.com"]}


def _pod(uid: str, app: str | None, ready: bool, **more: Any) -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], "phase": "Running"}
    labels = {"app": app} if app else {}
    metadata = {"uid": uid, "labels": labels, **more.pop("metadata", {})}
    return {"metadata": metadata, "status": {**status, **more}}


def test_pods_are_counted_per_app_without_those_that_are_leaving() -> None:
    pods = [
        _pod("u2", "file", True),
        _pod("u1", "file", False),
        _pod("u3", "file", True, metadata={"deletionTimestamp": "now"}),
        _pod("u4", "file", False, phase="Failed"),
        _pod("u5", None, True),
        _pod("u6", "auth", True),
    ]
    assert pods_by_app(pods) == {
        "file": {"ready": 1, "total": 2, "uids": ["u1", "u2"]},
        "auth": {"ready": 1, "total": 1, "uids": ["u6"]},
    }


def test_an_app_whose_pods_are_all_gone_has_none_rather_than_no_answer() -> None:
    observer = Pods(sample(), sample().clusters[0], 1)
    answers = [{"items": [_pod("u1", "file", True)]}, {"items": []}]
    observer.get = lambda path, **query: answers.pop(0)  # type: ignore[method-assign]
    assert observer.poll()["pods:us-east-1a/file"]["ready"] == 1
    fresh = observer.renew()
    fresh.get = observer.get  # type: ignore[method-assign]
    assert fresh.poll() == {"pods:us-east-1a/file": {"ready": 0, "total": 0, "uids": []}}


def test_nodes_are_counted_by_readiness() -> None:
    observer = Nodes(sample(), sample().clusters[0], 1)
    nodes = [_pod("n1", None, True), _pod("n2", None, False)]
    observer.get = lambda path, **query: {"items": nodes}  # type: ignore[method-assign]
    assert observer.poll() == {"nodes:us-east-1a": {"ready": 1, "total": 2}}


def test_alerts_become_inactive_when_they_leave_the_list() -> None:
    alert = {"labels": {"alertname": "Down", "zone": "a", "app": "file"}, "state": "pending"}
    lists = [[alert], [{**alert, "state": "firing"}], []]

    def script(path, query, to, over) -> None:
        send(to, json.dumps({"status": "success", "data": {"alerts": lists.pop(0)}}).encode())

    standin = Standin(script)
    observer = Alerts(sample(prometheus_url=standin.url), 1, SystemClock())
    try:
        states = [observer.poll() for _ in range(3)]
    finally:
        observer.close()
        standin.close()
    subject = "alert:Down/app=file,zone=a"
    assert states == [{subject: s} for s in ("pending", "firing", "inactive")]


def test_alertmanager_is_seen_apart_from_prometheus() -> None:
    alert = {"labels": {"alertname": "Down", "zone": "a"}, "status": {"state": "active"}}
    lists = [[alert], []]

    def script(path, query, to, over) -> None:
        send(to, json.dumps(lists.pop(0)).encode())

    standin = Standin(script)
    observer = Alertmanager(sample(alertmanager_url=standin.url), 1)
    try:
        states = [observer.poll() for _ in range(2)]
    finally:
        observer.close()
        standin.close()
    assert states == [{"alertmanager:Down/zone=a": s} for s in ("active", "resolved")]


def test_the_clock_of_prometheus_is_compared_with_ours() -> None:
    clock = ManualClock(1_700_000_000.0)

    def script(path, query, to, over) -> None:
        send(to, success([clock.wall_s(), str(clock.wall_s() - 1.23)], "scalar"))

    standin = Standin(script)
    observer = PrometheusClock(sample(prometheus_url=standin.url), 1, clock)
    try:
        assert observer.poll() == {"clock:prometheus": -1.2}
    finally:
        observer.close()
        standin.close()


def test_a_slow_answer_tells_no_clock_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prometheus that was frozen while it answered looks as if its clock were wrong."""
    observer = PrometheusClock(sample(), 1, ManualClock())
    monkeypatch.setattr(observer.reader, "clock_offset", lambda: (0.5, 0.6))
    (value,) = observer.poll().values()
    assert isinstance(value, Unseen)
    monkeypatch.setattr(observer.reader, "clock_offset", lambda: (0.5, 0.1))
    assert observer.poll() == {"clock:prometheus": 0.5}


def test_everything_the_target_names_is_watched_once() -> None:
    target = sample(alertmanager_url="http://127.108.0.93:9093")
    found = observers(target)
    names = [o.name for o in found]
    assert len(names) == len(set(names))
    subjects = {s for o in found for s in o.subjects}
    assert subjects >= {
        "dns:api.fileservice.lab",
        "dns:db-writer.fileservice.lab",
        "health_check:us-east-1",
        "health_check:us-west-2",
        "targets:us-east-1a",
        "targets:us-east-1b",
        "db:files-db",
        "db:files-db-west",
        "nodes:us-west-2",
        "replication:files-us-east-1",
        "clock:prometheus",
    }
    assert {"alertmanager", "alerts", "pods-us-east-1a"} <= set(names)
    for observer in found:
        fresh = observer.renew()
        assert (fresh.name, fresh.period_s) == (observer.name, observer.period_s)


@pytest.mark.parametrize(("time_scale", "periods"), [(10.0, SCALED), (1.0, REAL)])
def test_a_scaled_target_is_looked_at_more_often(time_scale: float, periods: Any) -> None:
    found = {o.name: o for o in observers(sample(time_scale=time_scale))}
    assert found["health_check-us-east-1"].period_s == periods.failover
    assert found["dns"].period_s == periods.dns
