"""How Route 53 picks an answer: pure functions of records and health.

Simple and failover records of types A, AAAA, CNAME and TXT, and aliases. Other routing
policies answer SERVFAIL rather than something that looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.lab.dns import Answer, Record

#: name → its addresses, for names outside the hosted zones (RDS endpoints, load balancers)
Addresses = Callable[[str], Sequence[str] | None]

#: What Route 53 and the other services use for names of theirs.
ENDPOINT_TTL_S = 5
ALIAS_TTL_S = 60
_MAX_CHAIN = 8


class UnsupportedPolicy(ValueError):
    """A record uses a routing policy the lab does not have."""


def resolve(
    name: str,
    qtype: str,
    state: Mapping[str, Any],
    health: Mapping[str, bool],
    time_scale: float,
    resolver: Addresses,
    *,
    never_fail_over: bool = False,
) -> Answer | None:
    """The authoritative answer for ``name``, or None if no hosted zone contains it.

    ``state`` is the AWS state (``records``); ``health`` maps health check id → healthy,
    where an unknown check counts as healthy, as a new one does on Route 53. TTLs are the
    API's divided by ``time_scale``, at least 1 s. ``never_fail_over`` is a seeded defect:
    health is ignored. ``resolver`` knows names outside the hosted zones.
    """
    name = name.rstrip(".").lower()
    if found := resolver(name):
        return _endpoint(name, qtype, found, time_scale)
    records = state["records"]
    zone = zone_of(name, records)
    if zone is None:
        return None
    chain: list[Record] = []
    current = name
    try:
        for _ in range(_MAX_CHAIN):
            found_set = _records_for(current, qtype, records, health, never_fail_over)
            if found_set is None:
                break
            chain.extend(_as_answer(current, qtype, found_set, time_scale, resolver))
            if qtype == "CNAME" or not chain or chain[-1].type != "CNAME":
                return Answer(tuple(chain), zone=zone)
            current = chain[-1].value.rstrip(".").lower()
            if found := resolver(current):
                end = _endpoint(current, qtype, found, time_scale)
                return Answer((*chain, *end.records), zone=zone)
        else:
            return Answer(rcode="SERVFAIL", zone=zone)
    except UnsupportedPolicy:
        return Answer(rcode="SERVFAIL", zone=zone)
    outside = zone_of(current, records) is None
    if chain and outside:
        return Answer(tuple(chain), zone=zone)
    return Answer(tuple(chain), "NXDOMAIN", zone)


def zone_of(name: str, records: Sequence[Mapping[str, Any]]) -> str | None:
    """The longest hosted zone that contains ``name``."""
    zones = {r["zone"] for r in records if name == r["zone"] or name.endswith("." + r["zone"])}
    return max(zones, key=len, default=None)


def choose(
    records: Sequence[Mapping[str, Any]],
    health: Mapping[str, bool],
    *,
    never_fail_over: bool = False,
) -> Mapping[str, Any] | None:
    """Which of the record sets of one name and type is answered.

    Failover: the primary while it is healthy or has no health check, else the secondary
    if that is healthy, else the primary again (Route 53 does not answer with nothing).
    """
    if any(r["policy"] not in ("simple", "failover") for r in records):
        raise UnsupportedPolicy(records[0]["name"])
    by_role = {r["failover"]: r for r in records}
    primary, secondary = by_role.get("PRIMARY"), by_role.get("SECONDARY")
    if primary is None or secondary is None:
        return next(iter(records), None)
    if never_fail_over or _healthy(primary, health) or not _healthy(secondary, health):
        return primary
    return secondary


def _healthy(record: Mapping[str, Any], health: Mapping[str, bool]) -> bool:
    check = record["health_check_id"]
    return not check or health.get(check, True)


def ttl(ttl_s: float, time_scale: float) -> int:
    """A TTL of the lab: the API's divided by ``time_scale``, whole seconds, at least 1."""
    return max(1, round(ttl_s / time_scale))


def _records_for(
    name: str,
    qtype: str,
    records: Sequence[Mapping[str, Any]],
    health: Mapping[str, bool],
    never_fail_over: bool,
) -> Mapping[str, Any] | None:
    """The chosen record set, an empty one for NODATA, None for a name that does not exist."""
    here = [r for r in records if r["name"] == name]
    for kind in (qtype, "CNAME"):
        if of_type := [r for r in here if r["type"] == kind]:
            return choose(of_type, health, never_fail_over=never_fail_over)
    exists = here or any(r["name"].endswith("." + name) for r in records)
    return {} if exists else None


def _as_answer(
    name: str, qtype: str, record: Mapping[str, Any], time_scale: float, addresses: Addresses
) -> list[Record]:
    if not record:
        return []
    if record.get("alias"):
        found = addresses(record["alias"].lower()) or ()
        seconds = ttl(ALIAS_TTL_S, time_scale)
        return [Record(name, "A", seconds, a) for a in found if record["type"] == qtype == "A"]
    seconds = ttl(record["ttl_s"], time_scale)
    return [Record(name, record["type"], seconds, value) for value in record["values"]]


def _endpoint(name: str, qtype: str, found: Sequence[str], time_scale: float) -> Answer:
    zone = name.partition(".")[2]
    if qtype != "A":
        return Answer(zone=zone)
    seconds = ttl(ENDPOINT_TTL_S, time_scale)
    return Answer(tuple(Record(name, "A", seconds, a) for a in found), zone=zone)
