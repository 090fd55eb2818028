"""What a fault would hit is shown before the run, capped, and held to at the moment it is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.chaos import session as sessions
from harness.chaos.actions import network, pods
from harness.chaos.before import Permission, checks_before
from harness.chaos.blast import Aim, BlastRadius, inside, require_within
from harness.chaos.registry import Reach
from harness.chaos.session import AIMS_NAME, Session
from harness.clock import ManualClock, SystemClock
from harness.errors import Refused
from harness.plan import Plan, read_plan
from harness.plan.model import Fault

from .conftest import Cloud
from .fake_kubernetes import FakeKubernetes

ROOT = Path(__file__).resolve().parents[2]


def day(**caps: Any) -> Plan:
    """Pods and a zone, as in the lab's game day."""
    plan = read_plan(ROOT / "experiments/gamedays/lab.yaml")
    faults = tuple(replace(f, **caps) for f in plan.faults if f.name in ("pod", "zone"))
    return replace(plan, faults=faults)


@pytest.fixture
def resolvable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks the system's resolver."""
    monkeypatch.setattr("harness.chaos.blast.resolve", lambda target, host: ["127.107.1.1"])


def radius_of(plan: Plan, cloud: Cloud) -> BlastRadius:
    return BlastRadius(plan, Reach(cloud.target), SystemClock())


def test_what_would_be_hit_is_told_and_nothing_is(
    cloud: Cloud, kubernetes: FakeKubernetes, resolvable: None
) -> None:
    radius = radius_of(day(), cloud)
    assert radius.look()[0] is True
    subnet = cloud.subnets["us-east-1a"]
    ready = len(kubernetes.names("file"))
    assert radius.aims == (
        Aim("pod", "kill_pods", ("us-east-1a/files app=file #1",), ready),
        Aim("zone", "isolate_zone", (subnet,), 2),
    )
    assert radius.aims[1].share == 0.5
    assert cloud.healthy() and kubernetes.deleted == []
    assert sessions.existing() is None


def test_a_subnet_without_its_tag_is_refused_before_the_run(cloud: Cloud, resolvable: None) -> None:
    cloud.ec2.delete_tags(Resources=[cloud.subnets["us-east-1a"]], Tags=[{"Key": "chaos"}])
    with pytest.raises(Refused, match="lacks the tag"):
        radius_of(day(), cloud).look()


@pytest.mark.parametrize(
    ("targets", "of", "at_most", "share", "said"),
    [
        (("a",), 2, 1, 0.5, ""),
        (("a", "b"), 4, 2, 0.5, ""),
        (("a",), 3, None, 1 / 3, ""),
        ((), 2, None, None, "hits nothing"),
        (("a", "b"), 4, 1, None, "hits 2 targets, at most 1 may be: a, b"),
        (("a", "b"), 3, 2, 0.5, "67% of 3"),
        (("a",), None, 1, 0.5, "nobody counted"),
    ],
)
def test_a_fault_hits_something_and_no_more_than_its_caps(
    targets: tuple[str, ...], of: int | None, at_most: int | None, share: float | None, said: str
) -> None:
    aim = Aim("zone", "isolate_zone", targets, of)
    if not said:
        require_within(aim, at_most, share)
        return
    with pytest.raises(Refused, match=said) as raised:
        require_within(aim, at_most, share)
    assert raised.value.hint


def test_the_caps_of_the_plan_hold_before_the_run(cloud: Cloud, resolvable: None) -> None:
    assert radius_of(day(share=0.5), cloud).look()[0]
    with pytest.raises(Refused, match="isolate_zone of zone hits 1 targets"):
        radius_of(day(share=0.4), cloud).look()


def test_what_is_made_must_be_what_was_shown(
    cloud: Cloud, session: Session, resolvable: None
) -> None:
    radius = radius_of(day(), cloud)
    radius.look()
    radius.write(session.run_dir)
    shown = json.loads((session.run_dir / AIMS_NAME).read_text())
    assert shown["zone"]["aims"][0]["targets"] == [cloud.subnets["us-east-1a"]]
    with pytest.raises(Refused, match=r"is not made: isolate_zone would hit .*; before the run"):
        network.isolate_zone("us-east-1b")
    with pytest.raises(Refused, match="before the run it was nothing"):
        network.isolate_region("us-east-1")
    assert cloud.healthy()
    network.isolate_zone("us-east-1a")
    assert not cloud.healthy()
    session.undo_all()
    assert cloud.healthy()


def test_the_caps_hold_when_a_fault_is_made(kubernetes: FakeKubernetes, session: Session) -> None:
    session.fault = "pod"
    aims = [{"action": "kill_pods", "targets": ["us-east-1a/files app=file #1"], "of": 3}]
    path = session.run_dir / AIMS_NAME
    path.write_text(json.dumps({"pod": {"at_most": None, "share": 0.3, "aims": aims}}))
    with pytest.raises(Refused, match="33% of 3"):
        pods.kill_pods("us-east-1a", "file", count=1)
    path.write_text(json.dumps({"pod": {"at_most": None, "share": 0.5, "aims": aims}}))
    pods.kill_pods("us-east-1a", "file", count=1)
    # Its replacement has another name; killing two is another matter.
    pods.kill_pods("us-east-1a", "file", count=1)
    path.write_text(json.dumps({"pod": {"at_most": None, "share": None, "aims": aims}}))
    for app, count in (("file", 2), ("other", 1)):
        with pytest.raises(Refused, match="would hit"):
            pods.kill_pods("us-east-1a", app, count=count)


@pytest.mark.parametrize("content", ["", "{}", "[", '{"other": {}}'])
def test_a_fault_of_which_nothing_was_shown_is_not_made(
    content: str, cloud: Cloud, session: Session
) -> None:
    (session.run_dir / AIMS_NAME).write_text(content)
    with pytest.raises(Refused, match="does not say what it may hit"):
        network.isolate_zone("us-east-1a")
    assert cloud.healthy()


@pytest.mark.parametrize(
    ("prometheus", "own", "said"),
    [
        ("http://10.0.0.9:9090", "10.0.1.7", ["Prometheus (10.0.0.9 in A)"]),
        ("http://10.0.1.9:9090", "10.0.0.7", ["this machine (10.0.0.7 in A)"]),
        ("http://10.0.1.9:9090", "10.0.1.7", []),
    ],
)
def test_what_watches_and_sends_may_not_lie_in_what_is_cut_off(
    prometheus: str, own: str, said: list[str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch,
    resolvable: None,
) -> None:  # fmt: skip
    monkeypatch.setattr("harness.chaos.blast._own_address", lambda towards: own)
    target = replace(cloud.target, prometheus_url=prometheus)
    subnet = cloud.subnets["us-east-1a"]
    aims = [Aim("zone", "isolate_zone", (subnet,), 2), Aim("pod", "kill_pods", ("x",), 2)]
    assert inside(aims, Reach(target)) == [text.replace("A)", f"{subnet})") for text in said]
    assert inside(aims[1:], Reach(target)) == []
    plan = replace(day(), faults=tuple(f for f in day().faults if f.name == "zone"))
    ok, detail, _ = BlastRadius(plan, Reach(target), SystemClock()).look()
    assert ok is (said == []) and all(word.split(" ")[0] in detail for word in said)


def test_a_run_is_checked_for_its_hours(cloud: Cloud) -> None:
    plan = replace(day(), faults=())
    clock = ManualClock(wall_s=1_764_000_000.0)  # a Monday, 16:00 UTC
    for hours, ok in (("Mon 15:00-17:00 UTC", True), ("Tue 15:00-17:00 UTC", False)):
        target = replace(cloud.target, allowed_hours=(hours,))
        checks = checks_before(
            plan, target, clock, guards=(), radius=radius_of(plan, cloud),
            permission=Permission(cloud.target_file, None),
        )  # fmt: skip
        assert checks["hours"]()[0] is ok
        assert "targets" not in checks


def test_a_production_target_needs_an_approval(cloud: Cloud) -> None:
    plan = replace(day(), faults=())
    for production in (False, True):
        target = replace(cloud.target, production=production, approvers="/no/approvers")
        checks = checks_before(
            plan, target, SystemClock(), guards=(), radius=radius_of(plan, cloud),
            permission=Permission(cloud.target_file, None),
        )  # fmt: skip
        assert ("approval" in checks) is production
    with pytest.raises(Refused, match="nobody has approved this run"):
        checks["approval"]()


@pytest.mark.parametrize(("key", "value"), [("at_most", "0"), ("share", "0 %"), ("share", "0.5")])
def test_a_cap_that_allows_nothing_is_no_cap(key: str, value: str) -> None:
    from harness.errors import PlanInvalid
    from harness.plan import parse_plan

    file = ROOT / "experiments/gamedays/lab.yaml"
    text = file.read_text().replace("  - name: zone\n", f"  - name: zone\n    {key}: {value}\n")
    with pytest.raises(PlanInvalid) as raised:
        parse_plan(text, file)
    assert str(raised.value.where).endswith(f"({'faults[1].' + key})")


def test_caps_are_read_and_kept() -> None:
    from harness.plan import parse_plan

    file = ROOT / "experiments/gamedays/lab.yaml"
    text = file.read_text().replace(
        "  - name: zone\n", "  - name: zone\n    at_most: 2\n    share: 50 %\n"
    )
    plan = parse_plan(text, file)
    fault: Fault = plan.fault("zone")
    assert (fault.at_most, fault.share) == (2, 0.5)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
