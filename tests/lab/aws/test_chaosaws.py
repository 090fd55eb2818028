"""Chaos Toolkit's AWS extension works unmodified against the lab's API."""

from __future__ import annotations

import pytest

from tests.lab.aws.conftest import URL, Aws

CONFIGURATION = {"aws_region": "us-east-1"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": URL,
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def test_instances_of_a_zone_are_stopped_and_started(aws: Aws) -> None:
    from chaosaws.ec2.actions import start_instances, stop_instances
    from chaosaws.ec2.probes import count_instances

    marked = [{"Name": "tag:chaos", "Values": ["allowed"]}]
    stop_instances(az="us-east-1b", filters=marked, configuration=CONFIGURATION)
    states = {i["zone"]: i["state"] for i in aws.state()["instances"]}
    assert states == {"us-east-1a": "running", "us-east-1b": "stopped", "us-west-2a": "running"}
    running = [*marked, {"Name": "instance-state-name", "Values": ["running"]}]
    assert count_instances(filters=running, configuration=CONFIGURATION) == 2
    start_instances(az="us-east-1b", filters=marked, configuration=CONFIGURATION)
    assert {i["state"] for i in aws.state()["instances"]} == {"running"}


def test_a_database_is_failed_over(aws: Aws) -> None:
    from chaosaws.rds.actions import reboot_db_instance
    from chaosaws.rds.probes import instance_status

    before = aws.one("databases", id="files-db")["failovers"]
    reboot_db_instance("files-db", force_failover=True, configuration=CONFIGURATION)
    assert aws.one("databases", id="files-db")["failovers"] == before + 1
    assert instance_status("files-db", configuration=CONFIGURATION) == "rebooting"


def test_targets_and_health_are_counted(aws: Aws) -> None:
    from chaosaws.elbv2.probes import all_targets_healthy, targets_health_count

    names = [aws.seed["regions"]["us-east-1"]["target_group_name"]]
    aws.put_truth(targets={"127.104.10.5:8080": True, "127.104.20.5:8080": False})
    counts = targets_health_count(names, configuration=CONFIGURATION)
    assert counts[names[0]] == {"healthy": 1, "unhealthy": 1}
    assert not all_targets_healthy(names, configuration=CONFIGURATION)


def test_route53_probes_and_cache_failover_answer(aws: Aws) -> None:
    from chaosaws.elasticache.actions import test_failover as fail_over_cache
    from chaosaws.route53.probes import get_dns_answer, get_health_check_status, get_hosted_zone

    seed = aws.seed
    check = seed["regions"]["us-east-1"]["health_check_id"]
    aws.put_truth(health={check: {"healthy": False, "reason": "down", "since": 0.0}})
    status = get_health_check_status(check, configuration=CONFIGURATION)
    assert status["HealthCheckObservations"][0]["StatusReport"]["Status"] == "Failure: down"
    zone = seed["hosted_zone_id"]
    assert get_hosted_zone(zone, configuration=CONFIGURATION)["HostedZone"]
    answer = get_dns_answer(zone, "api.fileservice.lab", "A", configuration=CONFIGURATION)
    assert answer["RecordData"] == ["127.104.3.1"]
    assert fail_over_cache(seed["caches"]["us-east-1"], "0001", configuration=CONFIGURATION)
