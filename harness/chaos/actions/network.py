"""Cutting a zone or a region off: its subnets get a network ACL that allows nothing.

Packets are dropped, not refused, so connections time out as they do when a zone is
really lost. The state to go back to (which ACL each subnet had) is recorded before the
first call. What is created carries the undo id as a tag and as client token, so an ACL
whose creation was cut off by a crash is found and deleted all the same. Association ids
change with each replacement; only subnet and ACL ids are recorded.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.chaos import session as sessions
from harness.chaos.registry import ALLOWED, Reach, ReadBack, UndoFunction, register
from harness.chaos.session import Session
from harness.errors import Refused
from harness.target.model import Region, Target

UNDO_KIND = "network.restore"
TAG_UNDO = "harness:undo"
TAG_RUN = "harness:run"


# ── actions ────────────────────────────────────────────────────────────────────────────


def isolate_zone(zone: str) -> dict[str, Any]:
    """Drop all traffic of the subnets of ``zone`` until undone.

    Returns ``{"undo": id, "targets": [subnet ids], "observed": {subnet: ACL id}}``.
    Raises Refused, before anything is made, if a subnet is not what the target file says,
    lacks the tag ``chaos=allowed`` or is isolated already, or if there is none.
    """
    session = sessions.current()
    regions = [r for r in session.reach.target.regions if zone in r.subnets]
    if not regions:
        raise Refused(f"no zone {zone} in target {session.reach.target.name}", hint=_HINT)
    return _isolate(session, "isolate_zone", regions[0], {zone: regions[0].subnets[zone]})


def isolate_region(region: str) -> dict[str, Any]:
    """Drop all traffic of every subnet of ``region`` until undone; see :func:`isolate_zone`."""
    session = sessions.current()
    found = [r for r in session.reach.target.regions if r.name == region]
    if not found:
        raise Refused(f"no region {region} in target {session.reach.target.name}", hint=_HINT)
    return _isolate(session, "isolate_region", found[0], found[0].subnets)


_HINT = "check `regions` in the target file"


def _isolate(
    session: Session, action: str, region: Region, zones: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    ec2 = session.reach.aws("ec2", region.name)
    _check_account(session.reach.target)
    subnets = _checked_subnets(ec2, region, zones)
    original = _original_acls(ec2, subnets)
    undo = session.new_undo_id()
    before = {"region": region.name, "vpc": region.vpc_id, "tag": undo, "subnets": original}

    def call() -> None:
        breaking = session.reach.to("inject").aws("ec2", region.name)
        acl = _create_acl(breaking, region.vpc_id, undo, session.run_dir.name)
        associations = {s: a["id"] for s, a in _associations(ec2, subnets).items()}
        for subnet in subnets:
            breaking.replace_network_acl_association(
                AssociationId=associations[subnet], NetworkAclId=acl
            )

    return session.make_fault(
        undo=undo,
        undo_kind=UNDO_KIND,
        action=action,
        targets=subnets,
        of=sum(len(ids) for r in session.reach.target.regions for ids in r.subnets.values()),
        before=before,
        call=call,
        read_back=lambda: _isolated(ec2, subnets, undo),
    )


def _check_account(target: Target) -> None:
    from harness.target.connect import check_account

    check_account(target)


def _checked_subnets(ec2: Any, region: Region, zones: Mapping[str, Sequence[str]]) -> list[str]:
    """The subnet ids, each checked against EC2; Refused if anything is not as described."""
    expected = {subnet: zone for zone, ids in zones.items() for subnet in ids}
    if not expected:
        raise Refused(f"{region.name}: no subnet to isolate", hint=_HINT)
    if region.vpc_id is None:
        raise Refused(f"{region.name}: the target file gives no vpc_id", hint=_HINT)
    # A filter, not SubnetIds: a subnet that does not exist is told by name, with the others.
    seen = {
        s["SubnetId"]: s
        for s in _pages(
            ec2,
            "describe_subnets",
            "Subnets",
            Filters=[{"Name": "subnet-id", "Values": sorted(expected)}],
        )
    }
    wrong = [
        problem
        for subnet, zone in expected.items()
        for problem in _subnet_problems(subnet, seen.get(subnet), zone, region.vpc_id)
    ]
    if wrong:
        raise Refused(
            f"{region.name} is not isolated: {'; '.join(wrong)}",
            hint=f"check the target file; tag subnets that may be hit {'='.join(ALLOWED)}",
        )
    return sorted(expected)


def _subnet_problems(
    subnet: str, seen: Mapping[str, Any] | None, zone: str, vpc: str
) -> Iterable[str]:
    if seen is None:
        yield f"{subnet} does not exist"
        return
    if seen["VpcId"] != vpc:
        yield f"{subnet} is in {seen['VpcId']}, not in {vpc}"
    if seen["AvailabilityZone"] != zone:
        yield f"{subnet} is in {seen['AvailabilityZone']}, not in {zone}"
    if _tags(seen).get(ALLOWED[0]) != ALLOWED[1]:
        yield f"{subnet} lacks the tag {'='.join(ALLOWED)}"


def _original_acls(ec2: Any, subnets: Sequence[str]) -> dict[str, str]:
    found = _associations(ec2, subnets)
    missing = set(subnets) - set(found)
    if missing:
        raise Refused(f"no network ACL is associated with {', '.join(sorted(missing))}")
    for subnet, association in found.items():
        if association["tag"] is not None:
            raise Refused(
                f"{subnet} is isolated already, by {association['tag']}",
                hint="`harness recover RUN` of that run first",
            )
    return {subnet: association["acl"] for subnet, association in found.items()}


def _create_acl(ec2: Any, vpc: str | None, undo: str, run: str) -> str:
    """An ACL without entries: what nothing allows is denied."""
    tags = {"Name": f"chaos {undo}", TAG_UNDO: undo, TAG_RUN: run}
    answer = ec2.create_network_acl(
        VpcId=vpc,
        ClientToken=undo,
        TagSpecifications=[
            {
                "ResourceType": "network-acl",
                "Tags": [{"Key": k, "Value": v} for k, v in tags.items()],
            }
        ],
    )
    return str(answer["NetworkAcl"]["NetworkAclId"])


def _isolated(ec2: Any, subnets: Sequence[str], undo: str) -> ReadBack:
    found = _associations(ec2, subnets)
    ours = all(s in found and found[s]["tag"] == undo for s in subnets)
    allowing = any(found[s]["allows"] for s in found)
    return ReadBack(ours and not allowing, {s: found[s]["acl"] for s in sorted(found)})


# ── undo ───────────────────────────────────────────────────────────────────────────────


def restore(before: Mapping[str, Any], reach: Reach) -> None:
    """Give each subnet the ACL it had and delete ours; safe at any point of the fault."""
    ec2 = reach.aws("ec2", before["region"])
    for subnet, current in _associations(ec2, sorted(before["subnets"])).items():
        # An ACL that somebody else put there meanwhile is theirs to decide about.
        if current["tag"] == before["tag"]:
            ec2.replace_network_acl_association(
                AssociationId=current["id"], NetworkAclId=before["subnets"][subnet]
            )
    for acl in _ours(ec2, before["tag"]):
        ec2.delete_network_acl(NetworkAclId=acl)


def restored(before: Mapping[str, Any], reach: Reach) -> ReadBack:
    """Holds when no subnet has our ACL and none of ours is left."""
    ec2 = reach.aws("ec2", before["region"])
    found = _associations(ec2, sorted(before["subnets"]))
    free = all(s in found and found[s]["tag"] != before["tag"] for s in before["subnets"])
    leaked = _ours(ec2, before["tag"])
    observed = {s: found[s]["acl"] for s in sorted(found)}
    return ReadBack(free and not leaked, {**observed, **({"leaked": leaked} if leaked else {})})


def by_hand(before: Mapping[str, Any], target: Target | None) -> list[str]:
    """Lines for a shell that do what :func:`restore` does; may be repeated."""
    aws = ["aws", "--region", before["region"]]
    if target is not None and target.aws_endpoint_url:
        aws += ["--endpoint-url", target.aws_endpoint_url]
    find = shlex.join([*aws, "ec2", "describe-network-acls", "--output", "text", "--filters"])
    lines = []
    for subnet, acl in sorted(before["subnets"].items()):
        # An association has another id each time it is replaced.
        query = f"NetworkAcls[].Associations[]|[?SubnetId=='{subnet}'].NetworkAclAssociationId"
        now = f'{find} Name=association.subnet-id,Values={subnet} --query "{query}"'
        to = [*aws, "ec2", "replace-network-acl-association", "--network-acl-id", acl]
        lines.append(f'{shlex.join(to)} --association-id "$({now})"')
    ours = f"{find} Name=tag:{TAG_UNDO},Values={before['tag']} --query NetworkAcls[].NetworkAclId"
    delete = shlex.join([*aws, "ec2", "delete-network-acl", "--network-acl-id"])
    return [*lines, f"{ours} | xargs -r -n 1 {delete}"]


register(UNDO_KIND, UndoFunction(restore, restored, by_hand))


# ── reading EC2 ────────────────────────────────────────────────────────────────────────


def _associations(ec2: Any, subnets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """subnet id → ``{"id": association, "acl", "tag": undo id or None, "allows": bool}``."""
    wanted = set(subnets)
    return {
        association["SubnetId"]: {
            "id": association["NetworkAclAssociationId"],
            "acl": acl["NetworkAclId"],
            "tag": _tags(acl).get(TAG_UNDO),
            "allows": any(
                entry["RuleAction"].lower() == "allow" for entry in acl.get("Entries") or ()
            ),
        }
        for acl in _pages(
            ec2,
            "describe_network_acls",
            "NetworkAcls",
            Filters=[{"Name": "association.subnet-id", "Values": sorted(wanted)}],
        )
        for association in acl["Associations"]
        if association["SubnetId"] in wanted
    }


def _ours(ec2: Any, tag: str) -> list[str]:
    filters = [{"Name": f"tag:{TAG_UNDO}", "Values": [tag]}]
    acls = _pages(ec2, "describe_network_acls", "NetworkAcls", Filters=filters)
    return sorted(acl["NetworkAclId"] for acl in acls)


def _pages(ec2: Any, operation: str, key: str, **arguments: Any) -> list[Any]:
    pages = ec2.get_paginator(operation).paginate(**arguments)
    return [item for page in pages for item in page[key]]


def _tags(resource: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags") or ()}
