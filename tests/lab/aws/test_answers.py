"""What the AWS API answers is what the lab's processes do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.lab.aws.conftest import Aws


def test_the_server_is_ready_with_its_account_soon(aws: Aws) -> None:
    assert aws.ready_s < 15, "measured 2 to 3 s; room for a busy machine"
    assert aws.client("sts").get_caller_identity()["Account"] == aws.seed["account"]


def test_everything_seeded_can_be_told_from_what_must_not_be_touched(aws: Aws) -> None:
    ec2 = aws.client("ec2")
    marked = [{"Name": "tag:chaos", "Values": ["allowed"]}]
    zones = aws.seed["regions"]["us-east-1"]["zones"]
    subnets = ec2.describe_subnets(Filters=marked)["Subnets"]
    assert {s["SubnetId"] for s in subnets} == {i for z in zones.values() for i in z["subnets"]}
    nodes = [
        i for r in ec2.describe_instances(Filters=marked)["Reservations"] for i in r["Instances"]
    ]
    by_zone = {z: [i["id"] for i in zone["instances"]] for z, zone in zones.items()}
    assert {i["InstanceId"]: i["Placement"]["AvailabilityZone"] for i in nodes} == {
        i: z for z, ids in by_zone.items() for i in ids
    }
    database = aws.client("rds").describe_db_instances(DBInstanceIdentifier="files-db")
    assert {"Key": "chaos", "Value": "allowed"} in database["DBInstances"][0]["TagList"]
    tags = aws.client("s3").get_bucket_tagging(Bucket="files-us-west-2")["TagSet"]
    assert {"Key": "chaos", "Value": "allowed"} in tags
    for region, name in (("us-east-1", "us-east-1b"), ("us-west-2", "us-west-2")):
        cluster = aws.client("eks", region).describe_cluster(name=name)["cluster"]
        assert cluster["tags"]["chaos"] == "allowed" and cluster["status"] == "ACTIVE"
    check = aws.seed["regions"]["us-west-2"]["health_check_id"]
    tags = aws.client("route53").list_tags_for_resource(
        ResourceType="healthcheck", ResourceId=check
    )["ResourceTagSet"]["Tags"]
    assert {"Key": "chaos", "Value": "allowed"} in tags


def test_a_health_check_shows_what_its_checkers_saw(aws: Aws) -> None:
    route53 = aws.client("route53")
    check = aws.seed["regions"]["us-east-1"]["health_check_id"]

    def statuses() -> set[str]:
        found = route53.get_health_check_status(HealthCheckId=check)["HealthCheckObservations"]
        return {o["StatusReport"]["Status"] for o in found}

    aws.put_truth(health={})
    assert statuses() == set()
    for healthy, word in ((True, "Success"), (False, "Failure")):
        truth = {"healthy": healthy, "reason": "why", "since": 1.0, "checked": 1_700_000_000.0}
        aws.put_truth(health={check: truth})
        assert statuses() == {f"{word}: why"}
    found = route53.get_health_check_status(HealthCheckId=check)["HealthCheckObservations"]
    assert len({o["Region"] for o in found}) == 8
    assert found[0]["StatusReport"]["CheckedTime"] == datetime.fromtimestamp(1_700_000_000, UTC)
    with pytest.raises(ClientError, match="NoSuchHealthCheck"):
        route53.get_health_check_status(HealthCheckId="none")


def test_the_dns_answer_follows_the_health_that_is_true(aws: Aws) -> None:
    route53, seed = aws.client("route53"), aws.seed

    def answer(name: str, kind: str) -> dict[str, Any]:
        return route53.test_dns_answer(
            HostedZoneId=seed["hosted_zone_id"], RecordName=name, RecordType=kind
        )

    for healthy, address in ((True, "127.104.1.1"), (False, "127.104.3.1")):
        check = seed["regions"]["us-east-1"]["health_check_id"]
        aws.put_truth(health={check: {"healthy": healthy, "reason": "", "since": 0.0}})
        found = answer("api.fileservice.lab", "A")
        assert (found["RecordData"], found["ResponseCode"]) == ([address], "NOERROR")
    assert answer("db-writer.fileservice.lab", "CNAME")["RecordData"] == [
        seed["databases"]["files-db"]["endpoint"]
    ]
    assert answer("nothing.fileservice.lab", "A")["ResponseCode"] == "NXDOMAIN"
    assert answer("fileservice.lab", "SOA")["RecordData"]


def test_target_health_is_the_load_balancers_own_view_with_zones(aws: Aws) -> None:
    elb = aws.client("elbv2")
    arn = aws.seed["regions"]["us-east-1"]["target_group_arn"]
    aws.put_truth(
        targets={
            "127.104.10.1:8080": True,
            "127.104.20.1:8080": {"healthy": False, "reason": "Request timed out"},
            "127.104.30.1:8080": True,
        }
    )
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert {
        (f["Target"]["Id"], f["Target"]["AvailabilityZone"], f["TargetHealth"]["State"])
        for f in found
    } == {
        ("127.104.10.1", "us-east-1a", "healthy"),
        ("127.104.20.1", "us-east-1b", "unhealthy"),
    }
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.104.10.99", "Port": 8080}])
    (own,) = elb.describe_target_health(
        TargetGroupArn=arn, Targets=[{"Id": "127.104.10.99", "Port": 8080}]
    )["TargetHealthDescriptions"]
    assert own["TargetHealth"]["State"] == "initial"
    aws.put_truth(targets={"127.104.10.99:8080": True})
    aws.put_truth(targets={})
    assert elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"] == []


def test_databases_are_described_as_they_are(aws: Aws) -> None:
    aws.put_truth(
        databases={
            "files-db": {
                "zone": "us-east-1b",
                "status": "available",
                "role": "primary",
                "source": None,
            },
            "files-db-replica-b": {
                "zone": "us-east-1a",
                "status": "storage-failure",
                "role": "replica",
                "source": "files-db",
                "lag_s": None,
            },
            "files-db-west": {
                "zone": "us-west-2a",
                "status": "available",
                "role": "replica",
                "source": "files-db",
                "lag_s": 1.5,
            },
        },
        applied_version=10**6,
    )
    east = {
        d["DBInstanceIdentifier"]: d
        for d in aws.client("rds").describe_db_instances()["DBInstances"]
    }
    (west,) = aws.client("rds", "us-west-2").describe_db_instances()["DBInstances"]
    primary, replica = east["files-db"], east["files-db-replica-b"]
    assert (primary["AvailabilityZone"], primary["MultiAZ"]) == ("us-east-1b", True)
    assert "ReadReplicaSourceDBInstanceIdentifier" not in primary
    assert set(primary["ReadReplicaDBInstanceIdentifiers"]) == {
        "files-db-replica-b",
        west["DBInstanceArn"],
    }
    assert replica["DBInstanceStatus"] == "storage-failure"
    assert replica["ReadReplicaSourceDBInstanceIdentifier"] == "files-db"
    assert replica["StatusInfos"][0]["Normal"] is False
    assert west["ReadReplicaSourceDBInstanceIdentifier"] == primary["DBInstanceArn"]
    assert west["StatusInfos"][0]["Normal"] is True
    assert west["Endpoint"]["Address"] == aws.seed["databases"]["files-db-west"]["endpoint"]
    assert west["MultiAZ"] is False
    chosen = aws.client("rds").describe_db_instances(
        Filters=[{"Name": "db-instance-id", "Values": ["files-db"]}]
    )["DBInstances"]
    assert [d["DBInstanceIdentifier"] for d in chosen] == ["files-db"]


def test_cloudwatch_has_replica_lag_and_health(aws: Aws) -> None:
    check = aws.seed["regions"]["us-east-1"]["health_check_id"]
    aws.put_truth(
        health={check: {"healthy": True, "reason": "", "since": 0.0}},
        databases={"files-db-replica-b": {"zone": "us-east-1b", "lag_s": 4.0, "role": "replica"}},
    )

    def latest(region: str, namespace: str, metric: str, name: str, value: str) -> float:
        now = datetime.now(UTC)
        points = aws.client("cloudwatch", region).get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value}],
            StartTime=now - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
        return max(p["Maximum"] for p in points)

    name = "DBInstanceIdentifier"
    assert latest("us-east-1", "AWS/RDS", "ReplicaLag", name, "files-db-replica-b") == 4.0
    assert latest("us-east-1", "AWS/Route53", "HealthCheckStatus", "HealthCheckId", check) == 1.0
