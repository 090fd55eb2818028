"""Preflight says yes only to what it saw; no answer is never a yes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sample_target import sample

from harness.clock import ManualClock
from harness.errors import Refused
from harness.target import preflight as module
from harness.target.preflight import Check, judge_databases, judge_subnets, preflight, settled
from harness.target.prometheus import PrometheusGap

PRIMARY = {"role": "primary", "status": "available", "zone": "a", "source": None}
REPLICA = {"role": "replica", "status": "available", "zone": "b", "source": "files-db"}


def test_a_check_that_hangs_is_unknown_and_the_whole_ends_in_time(monkeypatch) -> None:
    freed = threading.Event()
    checks = {
        "fine": lambda: (True, "good", "unused hint"),
        "hung": lambda: freed.wait(20),
        "no": lambda: (False, "red", "restore it"),
    }
    monkeypatch.setattr(module, "_checks", lambda target, clock: checks)
    monkeypatch.setattr(module, "CHECK_DEADLINE_S", 0.2)
    began = time.monotonic()
    found = preflight(sample())
    freed.set()
    assert time.monotonic() - began < 0.6
    assert [(c.name, c.ok) for c in found] == [("fine", True), ("hung", None), ("no", False)]
    assert found[0].hint == ""
    assert "0.2 s" in found[1].detail
    assert found[2].hint == "restore it"


@pytest.mark.parametrize(
    ("error", "ok"),
    [
        (Refused("wrong account", hint="set AWS_PROFILE"), False),
        (PrometheusGap("stale", "old"), None),
        (ConnectionError("refused"), None),
        (KeyError("Subnets"), None),
    ],
)
def test_an_error_is_no_only_when_it_is_an_answer(monkeypatch, error: Exception, ok: Any) -> None:
    def look() -> Any:
        raise error

    monkeypatch.setattr(module, "_checks", lambda target, clock: {"x": look})
    (check,) = preflight(sample())
    assert check.ok is ok
    assert check.detail
    assert check.hint


GOOD = Check("prometheus", True, "28 of 28 targets up")
GOING = Check("prometheus", False, "26 of 28 targets up", "why are they down?")
SILENT = Check("prometheus", None, "no answer", "is it reachable?")
WRONG = Check("account", False, "123, not 456", "set AWS_PROFILE")


@pytest.mark.parametrize(
    ("answers", "result", "asked", "waited_for"),
    [
        ([[GOOD]], GOOD, 1, 0),
        ([[GOING], [GOING], [GOOD]], GOOD, 3, 1),
        ([[SILENT], [GOOD]], GOOD, 2, 1),
        ([[GOING]], GOING, 16, 1),
        ([[SILENT]], SILENT, 16, 1),
        ([[WRONG]], WRONG, 1, 0),
    ],
)
def test_what_may_pass_by_itself_is_waited_for_a_while(
    answers: list[list[Check]], result: Check, asked: int, waited_for: int
) -> None:
    clock, looks, told = ManualClock(), [], []

    def look() -> list[Check]:
        looks.append(clock.monotonic_s())
        return answers[min(len(looks), len(answers)) - 1]

    assert settled(look, clock, told.append) == [result]
    assert (len(looks), len(told)) == (asked, waited_for)


@pytest.mark.parametrize(
    "name", ["account", "approval", "hours", "kill-switch /srv/STOP", "metrics", "subnets z"]
)
def test_nothing_is_waited_for_that_no_waiting_changes(name: str) -> None:
    looks: list[int] = []
    wrong = Check(name, False, "no", "another time")

    def look() -> list[Check]:
        looks.append(1)
        return [GOING, wrong]

    assert settled(look, ManualClock(), lambda wrong: None) == [GOING, wrong]
    assert len(looks) == 1


def _subnet(**changes: Any) -> dict[str, Any]:
    tags = [{"Key": "chaos", "Value": "allowed"}]
    subnet = {"SubnetId": "s-1", "AvailabilityZone": "z-a", "VpcId": "v", "Tags": tags}
    return {**subnet, **changes}


@pytest.mark.parametrize(
    ("found", "ok", "said"),
    [
        ([_subnet()], True, "1 subnets"),
        ([], False, "does not exist"),
        ([_subnet(AvailabilityZone="z-b")], False, "z-b, not z-a"),
        ([_subnet(VpcId="w")], False, "w, not v"),
        ([_subnet(Tags=[])], False, "no tag chaos=allowed"),
        ([_subnet(Tags=[{"Key": "chaos", "Value": "never"}])], False, "no tag"),
    ],
)
def test_subnets_must_exist_in_place_and_be_tagged(found: Any, ok: bool, said: str) -> None:
    got, detail, _ = judge_subnets({"s-1": "z-a"}, found, "v")
    assert got is ok
    assert said in detail


@pytest.mark.parametrize(
    ("east", "west", "ok", "said"),
    [
        (PRIMARY, REPLICA, True, "primary files-db"),
        (REPLICA, PRIMARY, False, "files-db-west (us-west-2)"),
        (PRIMARY, PRIMARY, False, "wanted one"),
        (REPLICA, REPLICA, False, "primaries: none"),
        (PRIMARY, {**REPLICA, "status": "stopped"}, False, "files-db-west is stopped"),
        (PRIMARY, None, False, "files-db-west does not exist"),
    ],
)
def test_there_must_be_one_primary_in_the_primary_region(
    east: Any, west: Any, ok: bool, said: str
) -> None:
    seen = {"files-db": east} | ({"files-db-west": west} if west else {})
    got, detail, _ = judge_databases(sample(), seen)
    assert got is ok
    assert said in detail
