"""What is done through the AWS API is what the supervisor sees, at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from harness.lab.aws.calls import AwsCalls
from harness.lab.aws.client import AwsState
from tests.lab.aws.conftest import URL, Aws

ZONE = "us-east-1a"
TCP_ALL = {"Protocol": "-1", "CidrBlock": "0.0.0.0/0"}


@pytest.fixture
def dark_acl(aws: Aws) -> Iterator[str]:
    """A network ACL with a rule that denies everything, in front of one that allows."""
    ec2 = aws.client("ec2")
    vpc = aws.seed["regions"]["us-east-1"]["vpc_id"]
    acl = ec2.create_network_acl(VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    for egress in (True, False):
        for number, action in ((1, "deny"), (100, "allow")):
            ec2.create_network_acl_entry(
                NetworkAclId=acl, RuleNumber=number, RuleAction=action, Egress=egress, **TCP_ALL
            )
    yield acl
    ec2.delete_network_acl(NetworkAclId=acl)


def associate(aws: Aws, zone: str, acl: str) -> str:
    """Put the zone's subnet behind ``acl``; returns the ACL it was behind."""
    ec2 = aws.client("ec2")
    (subnet,) = aws.seed["regions"]["us-east-1"]["zones"][zone]["subnets"]
    (found,) = ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [subnet]}]
    )["NetworkAcls"]
    (association,) = [a for a in found["Associations"] if a["SubnetId"] == subnet]
    ec2.replace_network_acl_association(
        AssociationId=association["NetworkAclAssociationId"], NetworkAclId=acl
    )
    return found["NetworkAclId"]


def test_a_denying_acl_cuts_off_its_zone_only_and_is_seen_at_once(aws: Aws, dark_acl: str) -> None:
    seen: dict[str, Any] = {}
    before = aws.poll()["version"]

    def wait() -> None:
        seen.update(aws.poll(after=before, wait_s=10))
        seen["t"] = time.monotonic()

    waiter = threading.Thread(target=wait)
    waiter.start()
    usual = associate(aws, ZONE, dark_acl)
    done = time.monotonic()
    waiter.join(10)
    assert seen["t"] - done < 0.5, "milliseconds on an idle machine"
    assert {s["zone"]: s["denied"] for s in seen["state"]["subnets"]} == {
        ZONE: True,
        "us-east-1b": False,
        "us-west-2a": False,
    }
    associate(aws, ZONE, usual)
    assert not aws.one("subnets", zone=ZONE)["denied"]


def test_a_call_that_only_reads_makes_no_new_version(aws: Aws) -> None:
    before = aws.poll()["version"]
    aws.client("ec2").describe_instances()
    aws.client("rds").describe_db_instances()
    assert aws.poll()["version"] == before


def test_a_long_poll_without_a_change_returns_after_its_wait(aws: Aws) -> None:
    version = aws.poll()["version"]
    start = time.monotonic()
    assert aws.poll(after=version, wait_s=0.3)["version"] == version
    assert 0.25 < time.monotonic() - start < 5


def test_a_stopped_instance_is_seen_and_starts_again(aws: Aws) -> None:
    ec2 = aws.client("ec2")
    instance = aws.seed["regions"]["us-east-1"]["zones"][ZONE]["instances"][0]["id"]
    ec2.stop_instances(InstanceIds=[instance])
    assert aws.one("instances", id=instance)["state"] == "stopped"
    ec2.start_instances(InstanceIds=[instance])
    assert aws.one("instances", id=instance)["state"] == "running"


def test_a_health_check_changed_in_the_api_is_changed_in_the_state(aws: Aws) -> None:
    route53 = aws.client("route53")
    check = aws.seed["regions"]["us-east-1"]["health_check_id"]
    route53.update_health_check(HealthCheckId=check, Inverted=True, FailureThreshold=5)
    changed = aws.one("health_checks", id=check)
    assert (changed["inverted"], changed["threshold"], changed["interval_s"]) == (True, 5, 10)
    route53.update_health_check(HealthCheckId=check, Inverted=False, FailureThreshold=3)
    assert not aws.one("health_checks", id=check)["inverted"]


def test_bucket_replication_and_deregistered_targets_are_seen(aws: Aws) -> None:
    s3, elb = aws.client("s3"), aws.client("elbv2")
    rules = s3.get_bucket_replication(Bucket="files-us-east-1")["ReplicationConfiguration"]
    s3.delete_bucket_replication(Bucket="files-us-east-1")
    assert aws.one("buckets", name="files-us-east-1")["replication"] == []
    s3.put_bucket_replication(Bucket="files-us-east-1", ReplicationConfiguration=rules)
    assert aws.one("buckets", name="files-us-east-1")["replication"] == ["files-us-west-2"]

    arn = aws.seed["regions"]["us-east-1"]["target_group_arn"]
    aws.put_truth(targets={"127.104.10.7:8080": True})
    assert "127.104.10.7" not in aws.one("target_groups", arn=arn)["deregistered"]
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "127.104.10.7"}])
    assert aws.one("target_groups", arn=arn)["deregistered"] == ["127.104.10.7"]
    aws.put_truth(targets={"127.104.10.7:8080": True})
    assert aws.one("target_groups", arn=arn)["deregistered"] == ["127.104.10.7"]
    aws.put_truth(targets={})
    assert aws.one("target_groups", arn=arn)["deregistered"] == []


def test_promotion_and_forced_failover_are_counted_and_pending_until_they_are_acted_upon(
    aws: Aws,
) -> None:
    rds = aws.client("rds")
    truth = {"zone": "us-east-1a", "status": "available", "role": "primary", "source": None}
    aws.put_truth(databases={"files-db": truth})

    def status() -> str:
        return rds.describe_db_instances(DBInstanceIdentifier="files-db")["DBInstances"][0][
            "DBInstanceStatus"
        ]

    before = aws.one("databases", id="files-db")
    rds.reboot_db_instance(DBInstanceIdentifier="files-db", ForceFailover=True)
    rds.reboot_db_instance(DBInstanceIdentifier="files-db")
    after = aws.one("databases", id="files-db")
    assert after["failovers"] - before["failovers"] == 1
    assert after["reboots"] - before["reboots"] == 1
    aws.put_truth(databases={"files-db": truth}, applied_version=0)
    assert status() == "rebooting", "this report was made before the request was seen"
    aws.put_truth(
        databases={"files-db": {**truth, "zone": "us-east-1b"}},
        applied_version=aws.poll()["version"],
    )
    assert status() == "available"
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        rds.reboot_db_instance(DBInstanceIdentifier="files-db-replica-b", ForceFailover=True)
    with pytest.raises(ClientError, match="not a read replica"):
        rds.promote_read_replica(DBInstanceIdentifier="files-db")


def test_a_replica_can_be_promoted_deleted_and_made_again_for_failback(aws: Aws) -> None:
    west, east = aws.client("rds", "us-west-2"), aws.client("rds")
    asyncio.run(AwsCalls(URL).promote_read_replica("files-db-west", "us-west-2"))
    promoted = aws.one("databases", id="files-db-west")
    assert (promoted["source"], promoted["promoted"], promoted["promotions"]) == (None, True, 1)
    west.delete_db_instance(DBInstanceIdentifier="files-db-west", SkipFinalSnapshot=True)
    assert [d for d in aws.state()["databases"] if d["id"] == "files-db-west"] == []
    arn = east.describe_db_instances(DBInstanceIdentifier="files-db")["DBInstances"][0][
        "DBInstanceArn"
    ]
    make = {"DBInstanceIdentifier": "files-db-west", "SourceDBInstanceIdentifier": arn}
    west.create_db_instance_read_replica(
        **make, AvailabilityZone="us-west-2a", SourceRegion="us-east-1"
    )
    again = aws.one("databases", id="files-db-west")
    assert (again["source"], again["promoted"], again["zone"]) == ("files-db", False, "us-west-2a")
    with pytest.raises(ClientError, match="DBInstanceAlreadyExists"):
        west.create_db_instance_read_replica(**make)


def test_the_writer_name_can_be_pointed_elsewhere(aws: Aws) -> None:
    seed = aws.seed
    name, calls = "db-writer.fileservice.lab", AwsCalls(URL)
    for instance in ("files-db-west", "files-db"):
        target = seed["rds_endpoints"][instance]
        asyncio.run(calls.upsert_cname(seed["hosted_zone_id"], name, target, 5))
        assert aws.one("records", name=name)["values"] == [target]


def test_a_cache_failover_is_counted(aws: Aws) -> None:
    group = aws.seed["caches"]["us-east-1"]
    before = aws.one("caches", id=group)["failovers"]
    answer = aws.client("elasticache").test_failover(ReplicationGroupId=group, NodeGroupId="0001")
    assert answer["ReplicationGroup"]["Status"] == "modifying"
    assert aws.one("caches", id=group)["failovers"] == before + 1


def test_the_supervisors_client_follows_changes_and_reports_back(aws: Aws) -> None:
    ec2 = aws.client("ec2")
    instance = aws.seed["regions"]["us-west-2"]["zones"]["us-west-2a"]["instances"][0]["id"]
    west = aws.client("ec2", "us-west-2")

    async def scene() -> tuple[str, str]:
        state = AwsState(URL)
        await state.ready(5)
        seen = []
        async for snapshot in state.watch():
            seen.append(next(i["state"] for i in snapshot["instances"] if i["id"] == instance))
            if len(seen) == 2:
                break
            await asyncio.to_thread(west.stop_instances, InstanceIds=[instance])
        await state.put_truth(health={"hc": {"healthy": True, "reason": "", "since": 0.0}})
        await state.close()
        return seen[0], seen[1]

    assert asyncio.run(asyncio.wait_for(scene(), 20)) == ("running", "stopped")
    west.start_instances(InstanceIds=[instance])
    assert ec2.describe_subnets()["Subnets"]


def test_a_server_that_is_not_there_is_told_with_a_hint() -> None:
    async def scene() -> None:
        state = AwsState("http://127.104.0.22:1")
        try:
            await state.ready(0.2)
        finally:
            await state.close()

    with pytest.raises(Exception, match="did not answer"):
        asyncio.run(scene())


def test_waiting_costs_no_cpu(aws: Aws) -> None:
    def cpu_ticks() -> int:
        fields = Path("/proc", str(aws.pid), "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    version = aws.poll()["version"]
    before = cpu_ticks()
    aws.poll(after=version, wait_s=1.0)
    assert cpu_ticks() - before <= 5, "hundredths of a second of CPU in one second of waiting"
