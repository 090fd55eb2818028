"""Expected failover times follow from the live configuration, or say why they do not."""

from __future__ import annotations

import pytest
from sample_target import sample

from harness.target.expected import Live, compute, expected

AWS_DEFAULT = Live(
    check_interval_s=30,
    check_threshold=3,
    ttl_s=60,
    target_interval_s=30,
    unhealthy_threshold=2,
    healthy_threshold=5,
    multi_az=True,
)
LAB = Live(
    check_interval_s=10,
    check_threshold=3,
    ttl_s=20,
    target_interval_s=10,
    unhealthy_threshold=2,
    healthy_threshold=2,
    multi_az=True,
)


@pytest.mark.parametrize(
    ("live", "scale", "step", "value_s", "low_s"),
    [
        (AWS_DEFAULT, 1, "health_check_red_s", 94, 60),
        (AWS_DEFAULT, 1, "health_check_green_s", 90, 60),
        (AWS_DEFAULT, 1, "dns_changed_s", 154, 60),
        (AWS_DEFAULT, 1, "first_success_s", 154, 60),
        (AWS_DEFAULT, 1, "dns_back_s", 150, 60),
        (AWS_DEFAULT, 1, "zone_ejected_s", 60, 30),
        (AWS_DEFAULT, 1, "zone_back_s", 150, 120),
        (AWS_DEFAULT, 1, "db_failover_s", 120, 60),
        (LAB, 10, "health_check_red_s", 3.4, 2),
        (LAB, 10, "dns_changed_s", 5.4, 2),
        (LAB, 10, "zone_ejected_s", 2, 1),
        (LAB, 10, "db_failover_s", 12, 6),
        (LAB, 1, "health_check_red_s", 34, 20),
    ],
)
def test_each_step_is_interval_times_threshold_over_the_time_scale(
    live: Live, scale: float, step: str, value_s: float, low_s: float
) -> None:
    found = compute(live, scale)[step]
    assert (found["value_s"], found["low_s"]) == (value_s, low_s)
    assert ("time scale" in found["because"]) == (scale != 1)


def test_each_step_names_its_source() -> None:
    found = compute(AWS_DEFAULT, 1)
    assert "RequestInterval 30 s × FailureThreshold 3" in found["health_check_red_s"]["because"]
    assert "4 s to connect" in found["health_check_red_s"]["because"]
    assert "connect" not in found["health_check_green_s"]["because"]
    assert "TTL 60 s" in found["dns_changed_s"]["because"]
    assert "UnhealthyThresholdCount 2" in found["zone_ejected_s"]["because"]
    assert "documented 60–120 s" in found["db_failover_s"]["because"]


def test_a_checker_that_waits_longer_turns_red_later_and_green_no_later() -> None:
    usual, patient = compute(LAB, 10), compute(LAB, 10, check_connect_s=10)
    assert (usual["health_check_red_s"]["value_s"], patient["health_check_red_s"]["value_s"]) == (
        3.4,
        4,
    )
    assert patient["first_success_s"]["value_s"] == 6
    assert patient["health_check_green_s"] == usual["health_check_green_s"]


def test_a_promotion_across_regions_has_no_documented_time() -> None:
    found = compute(AWS_DEFAULT, 1)["db_promoted_s"]
    assert found["value_s"] is None
    assert "no time" in found["because"]


def test_what_is_not_known_is_none_with_its_reason() -> None:
    live = Live(check_interval_s=10, check_threshold=3, because_not={"dns": "access denied"})
    found = compute(live, 1)
    assert found["health_check_red_s"]["value_s"] == 34
    assert found["dns_changed_s"] == {"value_s": None, "low_s": None, "because": "access denied"}
    assert found["first_success_s"]["value_s"] is None
    assert found["zone_ejected_s"]["value_s"] is None
    assert all(step["because"] for step in found.values())


def test_a_single_zone_database_is_not_expected_to_fail_over() -> None:
    found = compute(Live(multi_az=False), 1)["db_failover_s"]
    assert found["value_s"] is None
    assert "not Multi-AZ" in found["because"]


def test_an_aws_api_that_is_down_leaves_every_time_unknown_and_raises_nothing() -> None:
    found = expected(sample(aws_endpoint_url="http://127.108.0.20:1"))
    assert all(step["value_s"] is None for step in found.values())
    assert "127.108.0.20" in found["health_check_red_s"]["because"]
