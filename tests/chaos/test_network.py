"""Cutting off a zone or region, on a real AWS API stand-in."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from harness.chaos import session as sessions
from harness.chaos.actions import network
from harness.chaos.actions.undo import undo_all
from harness.chaos.session import FaultNotSeen, Session
from harness.chaos.undo import LOG_NAME, open_records
from harness.errors import Refused

from .conftest import Cloud


def history(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]


def test_a_zone_is_isolated_and_given_back_exactly(cloud: Cloud, session: Session) -> None:
    made = network.isolate_zone("us-east-1a")
    assert made["targets"] == [cloud.subnets["us-east-1a"]]
    assert cloud.acl_of("us-east-1a") != cloud.default_acl
    assert cloud.acl_of("us-east-1b") == cloud.default_acl
    assert undo_all()["undone"] == [made["undo"]]
    assert cloud.healthy()
    assert open_records(session.run_dir) == []


def test_a_region_is_isolated_in_all_its_zones(cloud: Cloud, session: Session) -> None:
    network.isolate_region("us-east-1")
    isolating = {cloud.acl_of(z) for z in cloud.subnets}
    assert len(isolating) == 1 and cloud.default_acl not in isolating
    undo_all()
    assert cloud.healthy()


def test_the_history_tells_the_whole_fault_in_order(cloud: Cloud, session: Session) -> None:
    network.isolate_zone("us-east-1a")
    undo_all()
    session.close()
    lines = history(session.run_dir)
    assert [line["kind"] for line in lines] == [
        "fault.start",
        "fault.made",
        "fault.readback",
        "undo.start",
        "undo.done",
        "undo.readback",
        "source.end",
    ]
    assert {line["source"] for line in lines} == {"chaos/zone"}
    assert [line["seq"] for line in lines] == list(range(7)) and lines[-1]["count"] == 6
    assert lines[1]["call_start_t"] <= lines[1]["call_end_t"]
    assert lines[2]["holds"] is True and lines[5]["restored"] is True
    assert lines[0]["undo"] == lines[5]["undo"]


def test_the_intent_names_the_state_before_any_call_that_changes_something(
    cloud: Cloud, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list = []

    def refuse(*_: object) -> str:
        seen.extend(open_records(session.run_dir))
        raise RuntimeError("the API is gone")

    monkeypatch.setattr(network, "_create_acl", refuse)
    with pytest.raises(RuntimeError):
        network.isolate_zone("us-east-1a")
    (record,) = seen
    assert record.before["subnets"] == {cloud.subnets["us-east-1a"]: cloud.default_acl}
    assert not record.made
    undo_all()
    assert cloud.healthy() and open_records(session.run_dir) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_no_fault_is_made_when_its_undo_record_cannot_be_written(
    cloud: Cloud, session: Session, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(f"harness.chaos.undo.os.{call}", fail)
        with pytest.raises(Refused, match="not made"):
            network.isolate_zone("us-east-1a")
    assert cloud.healthy()
    assert cloud.acl_count() == 1


def test_no_fault_is_made_when_the_record_is_written_only_in_part(
    cloud: Cloud, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr("harness.chaos.undo.os.write", lambda fd, data: real(fd, data[:20]))
        with pytest.raises(Refused, match="short write"):
            network.isolate_zone("us-east-1a")
    assert cloud.acl_count() == 1
    # The torn line does not swallow the record that follows it.
    network.isolate_zone("us-east-1a")
    assert len(open_records(session.run_dir)) == 1
    undo_all()
    assert cloud.healthy()


def test_no_fault_is_made_in_a_folder_that_cannot_be_written(
    cloud: Cloud, session: Session
) -> None:
    (session.run_dir / LOG_NAME).mkdir()  # also root cannot open a folder for writing
    with pytest.raises(Refused, match="not made"):
        network.isolate_zone("us-east-1a")
    assert cloud.healthy() and cloud.acl_count() == 1


def test_no_fault_is_made_when_nobody_watches(
    cloud: Cloud, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_watchdog(*_: object, **__: object) -> None:
        raise Refused("the watchdog did not start")

    monkeypatch.setattr(sessions, "is_watching", lambda run_dir: False)
    monkeypatch.setattr(sessions, "start_watchdog", no_watchdog)
    with pytest.raises(Refused, match="watchdog"):
        network.isolate_zone("us-east-1a")
    assert cloud.acl_count() == 1 and not (session.run_dir / LOG_NAME).exists()


def test_a_subnet_without_the_tag_is_refused(cloud: Cloud, session: Session) -> None:
    subnet = cloud.subnets["us-east-1a"]
    cloud.ec2.delete_tags(Resources=[subnet], Tags=[{"Key": "chaos"}])
    with pytest.raises(Refused, match=f"{subnet} lacks the tag chaos=allowed"):
        network.isolate_region("us-east-1")
    assert cloud.acl_count() == 1


def test_a_subnet_of_another_zone_or_vpc_is_refused(cloud: Cloud, session: Session) -> None:
    region = cloud.target.regions[0]
    b = cloud.subnets["us-east-1b"]
    with pytest.raises(Refused, match="is in us-east-1b, not in us-east-1a"):
        network._isolate(session, "isolate_zone", region, {"us-east-1a": (b,)})
    region.subnets["us-east-1a"] = ("subnet-gone",)  # type: ignore[index]
    with pytest.raises(Refused, match="subnet-gone does not exist"):
        network.isolate_zone("us-east-1a")
    assert cloud.acl_count() == 1


def test_zero_targets_are_refused(cloud: Cloud, session: Session) -> None:
    for call, name in (
        (network.isolate_zone, "us-east-1z"),
        (network.isolate_region, "eu-west-1"),
        (network.isolate_region, "us-west-2"),
    ):
        with pytest.raises(Refused):
            call(name)
    assert cloud.acl_count() == 1


def test_a_zone_that_is_isolated_already_is_refused(cloud: Cloud, session: Session) -> None:
    made = network.isolate_zone("us-east-1a")
    with pytest.raises(Refused, match=f"isolated already, by {made['undo']}"):
        network.isolate_region("us-east-1")
    undo_all()
    assert cloud.healthy()


def test_a_fault_that_does_not_land_fails_and_is_told(
    cloud: Cloud, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fault = Session.make_fault

    def without_effect(self: Session, **arguments: object) -> dict:
        return make_fault(self, **{**arguments, "call": lambda: None, "seen_within_s": 0.0})

    monkeypatch.setattr(Session, "make_fault", without_effect)
    with pytest.raises(FaultNotSeen):
        network.isolate_zone("us-east-1a")
    assert history(session.run_dir)[-1]["holds"] is False


def test_an_acl_that_somebody_else_put_there_meanwhile_is_left_alone(
    cloud: Cloud, session: Session
) -> None:
    network.isolate_zone("us-east-1a")
    theirs = cloud.ec2.create_network_acl(VpcId=cloud.vpc)["NetworkAcl"]["NetworkAclId"]
    association = next(
        a["NetworkAclAssociationId"]
        for acl in cloud._acls()
        for a in acl["Associations"]
        if a["SubnetId"] == cloud.subnets["us-east-1a"]
    )
    cloud.ec2.replace_network_acl_association(AssociationId=association, NetworkAclId=theirs)
    undo_all()
    assert cloud.acl_of("us-east-1a") == theirs and cloud.acl_count() == 2
