"""How long each step of a failover should take, computed from the live configuration.

A measured time means little by itself: 40 s to turn a health check red is right
with a 10 s interval and four failures, and wrong with one. So each expectation is
computed from what the target's AWS API says of itself, divided by the target's
``time_scale``, and says where it comes from. What AWS documents no time for, or
what could not be read, has the value None and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from harness.target.connect import aws
from harness.target.deadline import Late, call_within
from harness.target.model import Target

#: Seconds to wait for all of the live configuration.
DEADLINE_S = 4.0
#: "Failover times are typically 60–120 seconds" (RDS user guide, Multi-AZ DB instances).
MULTI_AZ_S = (60.0, 120.0)
#: Alias records have no TTL of their own; an alias to a load balancer uses its 60 s.
ALIAS_TTL_S = 60.0


@dataclass(frozen=True)
class Live:
    """What the AWS API says of the primary region; None where it said nothing.

    ``because_not`` says why a part is missing, by part: health_check, dns, targets, database.
    """

    check_interval_s: float | None = None
    check_threshold: int | None = None
    ttl_s: float | None = None
    target_interval_s: float | None = None
    unhealthy_threshold: int | None = None
    healthy_threshold: int | None = None
    multi_az: bool | None = None
    because_not: dict[str, str] = field(default_factory=dict)


def expected(target: Target) -> dict[str, dict[str, Any]]:
    """``{step: {"value_s", "low_s", "because"}}`` for ``target``; never raises.

    Steps: ``health_check_red_s``, ``dns_changed_s`` (as a client sees it: TTL included),
    ``first_success_s``, ``health_check_green_s``, ``dns_back_s``, ``zone_ejected_s``,
    ``zone_back_s``, ``db_failover_s``, ``db_promoted_s``. ``value_s`` is the longest a
    healthy configuration takes, ``low_s`` the shortest; both None when unknown.
    """
    return compute(read_live(target), target.time_scale, target.check_connect_s)


def compute(
    live: Live, time_scale: float, check_connect_s: float = 4.0
) -> dict[str, dict[str, Any]]:
    """The expectations that follow from ``live``; pure.

    Against a black hole a check fails only once ``check_connect_s`` is over (Route 53: 4 s).
    """
    scaled = f", divided by {time_scale:g} (time scale)" if time_scale != 1 else ""
    green, green_why = _product(
        live.check_interval_s, live.check_threshold, "Route 53 RequestInterval", "FailureThreshold"
    )
    # A refused connection fails at once; one that is never answered, after the time to connect.
    red = None if green is None else green + check_connect_s
    red_why = green_why and f"{green_why} + {check_connect_s:g} s to connect"
    eject, eject_why = _product(
        live.target_interval_s,
        live.unhealthy_threshold,
        "target group HealthCheckIntervalSeconds",
        "UnhealthyThresholdCount",
    )
    back, back_why = _product(
        live.target_interval_s,
        live.healthy_threshold,
        "target group HealthCheckIntervalSeconds",
        "HealthyThresholdCount",
    )
    changed = None if red is None or live.ttl_s is None else red + live.ttl_s
    back_in_dns = None if green is None or live.ttl_s is None else green + live.ttl_s
    no_dns_why = _missing(live, "dns" if live.ttl_s is None else "health_check")
    ttl_why = "" if live.ttl_s is None else f" + record TTL {live.ttl_s:g} s"
    changed_why = red_why + ttl_why if changed is not None else no_dns_why
    back_in_dns_why = green_why + ttl_why if back_in_dns is not None else no_dns_why
    low_db, high_db = MULTI_AZ_S if live.multi_az else (None, None)
    red_why = red_why or _missing(live, "health_check")
    green_why = green_why or _missing(live, "health_check")
    eject_why = eject_why or _missing(live, "targets")
    back_why = back_why or _missing(live, "targets")

    def step(high: float | None, why: str, low: float | None = None) -> dict[str, Any]:
        if high is None:
            return {"value_s": None, "low_s": None, "because": why}
        shortest = high if low is None else low
        # One interval passes unseen at most: a failure just after a check waits for the next.
        return {
            "value_s": round(high / time_scale, 3),
            "low_s": round(shortest / time_scale, 3),
            "because": why + scaled,
        }

    one_less = _one_interval_less(green, live.check_interval_s)
    return {
        "health_check_red_s": step(red, red_why, one_less),
        "dns_changed_s": step(changed, changed_why, one_less),
        "first_success_s": step(
            changed, changed_why + "; a client asks again once its answer has expired", one_less
        ),
        "health_check_green_s": step(green, green_why, one_less),
        "dns_back_s": step(back_in_dns, back_in_dns_why, one_less),
        "zone_ejected_s": step(eject, eject_why, _one_interval_less(eject, live.target_interval_s)),
        "zone_back_s": step(back, back_why, _one_interval_less(back, live.target_interval_s)),
        "db_failover_s": step(high_db, _database_why(live), low_db),
        "db_promoted_s": step(
            None, "AWS documents no time for the promotion of a replica in another region"
        ),
    }


def _product(
    interval_s: float | None, threshold: int | None, of: str, by: str
) -> tuple[float | None, str]:
    if interval_s is None or threshold is None:
        return None, ""
    return interval_s * threshold, f"{of} {interval_s:g} s × {by} {threshold}"


def _one_interval_less(total_s: float | None, interval_s: float | None) -> float | None:
    if total_s is None or interval_s is None:
        return None
    return total_s - interval_s


def _missing(live: Live, part: str) -> str:
    return live.because_not.get(part, "the target does not name it")


def _database_why(live: Live) -> str:
    if live.multi_az is None:
        return _missing(live, "database")
    if not live.multi_az:
        return "the primary database is not Multi-AZ: it does not fail over by itself"
    low, high = MULTI_AZ_S
    return f"RDS Multi-AZ, documented {low:g}–{high:g} s"


def read_live(target: Target) -> Live:
    """Ask the target's AWS API for the configuration of its primary region; never raises."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}

    def ask() -> None:
        for part, read in _PARTS.items():
            _ask_one(part, read, target, found, missing)

    try:
        call_within(DEADLINE_S, ask)
    except Late:
        for part in _PARTS:
            if part not in missing and not any(key in found for key in _KEYS[part]):
                missing[part] = f"the AWS API gave no answer within {DEADLINE_S:g} s"
    return Live(**dict(found), because_not=dict(missing))


def _ask_one(
    part: str,
    read: Callable[[Target], dict[str, Any]],
    target: Target,
    found: dict[str, Any],
    missing: dict[str, str],
) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found.update(read(target))
    except (BotoCoreError, ClientError) as error:
        missing[part] = f"the AWS API did not say: {error}"
    except (KeyError, IndexError, TypeError, ValueError) as error:
        missing[part] = f"the AWS API's answer cannot be read: {error!r}"


def _health_check(target: Target) -> dict[str, Any]:
    check_id = target.region(target.primary).health_check_id
    if check_id is None:
        return {}
    answer = aws(target, "route53", target.primary).get_health_check(HealthCheckId=check_id)
    config = answer["HealthCheck"]["HealthCheckConfig"]
    return {
        "check_interval_s": float(config["RequestInterval"]),
        "check_threshold": int(config["FailureThreshold"]),
    }


def _dns(target: Target) -> dict[str, Any]:
    if target.hosted_zone_id is None:
        return {}
    name = (urlsplit(target.service_url).hostname or "").rstrip(".") + "."
    answer = aws(target, "route53", target.primary).list_resource_record_sets(
        HostedZoneId=target.hosted_zone_id, StartRecordName=name
    )
    ttls = [
        float(record.get("TTL", ALIAS_TTL_S))
        for record in answer["ResourceRecordSets"]
        if record["Name"].lower() == name.lower() and record["Type"] in ("A", "AAAA", "CNAME")
    ]
    return {"ttl_s": max(ttls)}


def _targets(target: Target) -> dict[str, Any]:
    arn = target.region(target.primary).target_group_arn
    if arn is None:
        return {}
    client = aws(target, "elbv2", target.primary)
    group = client.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]
    return {
        "target_interval_s": float(group["HealthCheckIntervalSeconds"]),
        "unhealthy_threshold": int(group["UnhealthyThresholdCount"]),
        "healthy_threshold": int(group["HealthyThresholdCount"]),
    }


def _database(target: Target) -> dict[str, Any]:
    ids = [d.instance for d in target.databases if d.region == target.primary]
    if not ids:
        return {}
    instances = aws(target, "rds", target.primary).describe_db_instances()["DBInstances"]
    writers = [
        i
        for i in instances
        if i["DBInstanceIdentifier"] in ids and not i.get("ReadReplicaSourceDBInstanceIdentifier")
    ]
    return {"multi_az": bool(writers[0]["MultiAZ"])}


_PARTS: dict[str, Callable[[Target], dict[str, Any]]] = {
    "health_check": _health_check,
    "dns": _dns,
    "targets": _targets,
    "database": _database,
}
_KEYS = {
    "health_check": ("check_interval_s",),
    "dns": ("ttl_s",),
    "targets": ("target_interval_s",),
    "database": ("multi_az",),
}
