"""Is the target what the plan believes, and healthy, before anything is broken?

A game day on a target that is already limping measures nothing, and one on the
wrong account measures somebody else's. Every check only reads. Checks run side by
side, each with its deadline; one without an answer is unknown (``ok`` is None), and
an unknown is not a yes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness.clock import Clock, SystemClock
from harness.errors import HarnessError
from harness.target.connect import (
    NoAnswer,
    aws,
    check_account,
    kubernetes,
    lookup,
    prometheus,
    resolve,
)
from harness.target.deadline import Late, call_within
from harness.target.model import Cluster, Region, Target

#: Seconds any one check may take, and all of them together.
CHECK_DEADLINE_S = 4.5
TOTAL_DEADLINE_S = 5.0
#: Clocks further apart than this make a timeline across machines meaningless.
CLOCK_OFFSET_MAX_S = 2.0
#: What has just scaled in or failed back looks ill for some seconds: Prometheus drops a target
#: it was told to forget up to 5 s late, and an alert resolves an evaluation later.
SETTLE_S = 15.0
SETTLE_PERIOD_S = 1.0
#: Checks whose answer no waiting changes.
_LASTING = frozenset({"account", "approval", "hours", "kill-switch", "metrics", "subnets"})
#: An alert that fires always, to show that alerting works.
ALWAYS_FIRING = frozenset({"Watchdog", "DeadMansSwitch"})
#: Resources that may be broken carry this tag.
ALLOWED_TAG = ("chaos", "allowed")

Finding = tuple[bool, str, str]


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``ok``: yes, no, or None when it could not be told."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def preflight(
    target: Target,
    clock: Clock | None = None,
    *,
    edge: bool = False,
    more: Mapping[str, Callable[[], Finding]] | None = None,
) -> list[Check]:
    """Look at ``target`` without touching it; takes at most :data:`TOTAL_DEADLINE_S`.

    ``edge``: traffic will enter there, so it must answer too. ``more``: checks of others, by name.

    Never raises; in a fixed order. A check's ``ok`` is None when there was no answer.
    """
    checks = _checks(target, clock or SystemClock())
    if edge and target.edge_url:
        at = target.edge_url
        checks["edge"] = lambda: _answers(target, at)
    checks |= more or {}
    results: dict[str, Check] = {}
    left = threading.Semaphore(0)

    def run(name: str, look: Callable[[], Finding]) -> None:
        results[name] = _outcome(name, look)
        left.release()

    for name, look in checks.items():
        threading.Thread(target=run, args=(name, look), daemon=True).start()
    ends = SystemClock().monotonic_s() + TOTAL_DEADLINE_S
    for _ in checks:
        if not left.acquire(timeout=max(0.0, ends - SystemClock().monotonic_s())):
            break
    done = dict(results)
    return [done.get(name) or _late(name, TOTAL_DEADLINE_S) for name in checks]


def settled(
    look: Callable[[], list[Check]], clock: Clock, on_wait: Callable[[list[Check]], None]
) -> list[Check]:
    """The checks ``look`` gives, asked again while what is wrong may pass by itself.

    Asks at most :data:`SETTLE_S` long, and only once when the target is the wrong one.
    ``on_wait`` is told, once, which checks are waited for.
    """
    give_up_m = clock.monotonic_s() + SETTLE_S
    told = False
    while True:
        checks = look()
        wrong = [c for c in checks if c.ok is not True]
        lasting = any(c.name.split()[0] in _LASTING for c in wrong)
        if not wrong or lasting or clock.monotonic_s() >= give_up_m:
            return checks
        if not told:
            on_wait(wrong)
            told = True
        clock.sleep(SETTLE_PERIOD_S)


def _outcome(name: str, look: Callable[[], Finding]) -> Check:
    try:
        ok, detail, hint = call_within(CHECK_DEADLINE_S, look)
    except Late:
        return _late(name, CHECK_DEADLINE_S)
    except HarnessError as error:
        unknown = error.exit_status == error.exit_status.UNKNOWN
        return Check(name, None if unknown else False, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - whatever a client raises, the check has no answer
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Check(name, None, detail, "is it reachable from here?")
    return Check(name, ok, detail, "" if ok else hint)


def _late(name: str, deadline_s: float) -> Check:
    detail = f"no answer within {deadline_s:g} s"
    return Check(name, None, detail, "is it reachable from here?")


def _checks(target: Target, clock: Clock) -> dict[str, Callable[[], Finding]]:
    checks: dict[str, Callable[[], Finding]] = {"account": lambda: _account(target)}
    for region in target.regions:
        if region.subnets:
            checks[f"subnets {region.name}"] = lambda r=region: _subnets(target, r)  # type: ignore[misc]
    for cluster in target.clusters:
        checks[f"cluster {cluster.name}"] = lambda c=cluster: _cluster(target, c)  # type: ignore[misc]
    checks["dns"] = lambda: _dns(target)
    for region in target.regions:
        if region.health_check_id:
            checks[f"health check {region.name}"] = (
                lambda r=region: _health_check(target, r)  # type: ignore[misc]
            )
    if target.databases:
        checks["databases"] = lambda: _databases(target)
    checks["service"] = lambda: _service(target)
    checks["prometheus"] = lambda: _prometheus(target, clock)
    checks["alerts"] = lambda: _alerts(target)
    return checks


def _account(target: Target) -> Finding:
    return True, f"account {check_account(target)}", ""


def _subnets(target: Target, region: Region) -> Finding:
    wanted = {s: zone for zone, subnets in region.subnets.items() for s in subnets}
    ec2 = aws(target, "ec2", region.name)
    found = ec2.describe_subnets(SubnetIds=sorted(wanted))["Subnets"]
    return judge_subnets(wanted, found, region.vpc_id)


def judge_subnets(
    wanted: Mapping[str, str], found: Iterable[Mapping[str, Any]], vpc_id: str | None
) -> Finding:
    """Are the subnets (id → zone) there, where they should be, and tagged as allowed?"""
    by_id = {s["SubnetId"]: s for s in found}
    wrong = []
    for subnet, zone in wanted.items():
        seen = by_id.get(subnet)
        if seen is None:
            wrong.append(f"{subnet} does not exist")
            continue
        tags = {t["Key"]: t["Value"] for t in seen.get("Tags", ())}
        if seen["AvailabilityZone"] != zone:
            wrong.append(f"{subnet} is in {seen['AvailabilityZone']}, not {zone}")
        elif vpc_id is not None and seen["VpcId"] != vpc_id:
            wrong.append(f"{subnet} is in {seen['VpcId']}, not {vpc_id}")
        elif tags.get(ALLOWED_TAG[0]) != ALLOWED_TAG[1]:
            wrong.append(f"{subnet} has no tag {ALLOWED_TAG[0]}={ALLOWED_TAG[1]}")
    if wrong:
        hint = "correct the target file, or tag the subnets that may be cut off"
        return False, "; ".join(wrong), hint
    return True, f"{len(wanted)} subnets, tagged {ALLOWED_TAG[0]}={ALLOWED_TAG[1]}", ""


def _cluster(target: Target, cluster: Cluster) -> Finding:
    from harness.target.kube import get_json, node_counts

    api = kubernetes(target, cluster.name)
    with api:
        ready, total = node_counts(get_json(api, "/api/v1/nodes")["items"])
    wanted = cluster.nodes if cluster.nodes is not None else max(1, total)
    detail = f"{ready} of {total} nodes ready, {wanted} expected"
    ok = ready == total == wanted
    return ok, detail, f"kubectl --context {cluster.context} get nodes"


def _dns(target: Target) -> Finding:
    host = urlsplit(target.service_url).hostname or ""
    addresses = resolve(target, host)
    primary = target.region(target.primary)
    if not addresses:
        return False, f"{host} has no address", "is dns_server right?"
    if not primary.addresses:
        return True, f"{host} → {', '.join(addresses)}", ""
    ok = set(addresses) <= set(primary.addresses)
    detail = f"{host} → {', '.join(addresses)}, {'' if ok else 'not '}{primary.name}"
    return ok, detail, "fail back to the primary region first"


def _health_check(target: Target, region: Region) -> Finding:
    from harness.target.route53 import health

    client = aws(target, "route53", target.primary)
    answer = client.get_health_check_status(HealthCheckId=region.health_check_id)
    value, share = health(answer["HealthCheckObservations"])
    detail = f"{value}: {share:.0%} of the checkers see it healthy"
    return value == "healthy", detail, f"restore {region.name} first"


def _databases(target: Target) -> Finding:
    from harness.target.rds import roles

    seen: dict[str, dict[str, Any]] = {}
    for region in sorted({d.region for d in target.databases}):
        seen |= roles(aws(target, "rds", region).describe_db_instances()["DBInstances"])
    ok, detail, hint = judge_databases(target, seen)
    if ok and target.db_writer_host:
        writer = lookup(target, target.db_writer_host, "CNAME")
        primary = next(i for i, db in seen.items() if db["role"] == "primary")
        if [name.partition(".")[0] for name in writer] != [primary]:
            return False, f"{target.db_writer_host} → {writer}, primary is {primary}", hint
    return ok, detail, hint


def judge_databases(target: Target, seen: Mapping[str, Mapping[str, Any]]) -> Finding:
    """One available primary in the primary region, every other an available replica."""
    hint = "restore the databases (or correct the target file) first"
    wrong, primaries = [], []
    for database in target.databases:
        db = seen.get(database.instance)
        if db is None:
            wrong.append(f"{database.instance} does not exist")
            continue
        if db["status"] != "available":
            wrong.append(f"{database.instance} is {db['status']}")
        if db["role"] == "primary":
            primaries.append(database)
    if [d.region for d in primaries] != [target.primary]:
        names = ", ".join(f"{d.instance} ({d.region})" for d in primaries) or "none"
        wrong.append(f"primaries: {names}; wanted one, in {target.primary}")
    if wrong:
        return False, "; ".join(wrong), hint
    detail = f"primary {primaries[0].instance}, {len(target.databases) - 1} replicas"
    return True, detail, hint


def _service(target: Target) -> Finding:
    return _answers(target, target.service_url)


def _answers(target: Target, url: str) -> Finding:
    """Does the health path answer at ``url``, by the address the target's DNS gives?"""
    import requests

    parts = urlsplit(url)
    host = parts.hostname or ""
    addresses = resolve(target, host)
    if not addresses:
        raise NoAnswer(f"{host} has no address")
    # Over TLS the name must stay in the URL for SNI and the certificate.
    port = f":{parts.port}" if parts.port else ""
    where = parts.netloc if parts.scheme == "https" else f"{addresses[0]}{port}"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"{parts.scheme}://{where}{target.health_path}",
            headers={"Host": parts.netloc},
            timeout=(2.0, 2.0),
            allow_redirects=False,
        )
    detail = f"GET {target.health_path} → {answer.status_code}"
    return 200 <= answer.status_code < 300, detail, "is the service healthy, health_path right?"


def _prometheus(target: Target, clock: Clock) -> Finding:
    reader = prometheus(target, timeout_s=CHECK_DEADLINE_S - 0.5, clock=clock)
    try:
        up = reader.vector("up")
        offset_s, uncertainty_s = reader.clock_offset()
    finally:
        reader.close()
    down = [s.labels.get("instance", "?") for s in up if s.value != 1]
    detail = f"{len(up) - len(down)} of {len(up)} targets up, clock {offset_s:+.2f} s"
    if abs(offset_s) - uncertainty_s > CLOCK_OFFSET_MAX_S:
        return False, detail, "set the clocks (NTP): a timeline would be wrong"
    if down:
        return False, f"{detail}; down: {', '.join(sorted(down)[:5])}", "why are they down?"
    return True, detail, ""


def _alerts(target: Target) -> Finding:
    reader = prometheus(target, timeout_s=CHECK_DEADLINE_S - 0.5)
    try:
        alerts = reader.alerts()
    finally:
        reader.close()
    firing = sorted(
        {
            str(alert["labels"].get("alertname", "?"))
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"].get("alertname") not in ALWAYS_FIRING
        }
    )
    if firing:
        return False, f"firing: {', '.join(firing)}", "wait until it is over, or find out why"
    return True, "none firing", ""
