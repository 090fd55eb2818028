"""Killing pods, on a small Kubernetes API."""

from __future__ import annotations

import json

import pytest

from harness.chaos.actions import pods
from harness.chaos.actions.undo import undo_all
from harness.chaos.session import Session
from harness.chaos.undo import open_records
from harness.errors import Refused

from .fake_kubernetes import FakeKubernetes

A = "us-east-1a"


def test_one_pod_is_killed_by_uid_without_grace(
    kubernetes: FakeKubernetes, session: Session
) -> None:
    made = pods.kill_pods(A, "file", count=1)
    assert made["targets"] == ["file-1 uid-1"]
    (deleted,) = kubernetes.deleted
    assert deleted["preconditions"] == {"uid": "uid-1"} and deleted["gracePeriodSeconds"] == 0
    assert kubernetes.names("other") == ["other-4"]


def test_replaced_pods_are_seen_and_close_the_record(
    kubernetes: FakeKubernetes, session: Session
) -> None:
    made = pods.kill_pods(A, "file", count=2)
    assert undo_all()["undone"] == [made["undo"]]
    assert open_records(session.run_dir) == []


def test_pods_that_are_not_replaced_are_told(kubernetes: FakeKubernetes, session: Session) -> None:
    kubernetes.replaces = False
    made = pods.kill_pods(A, "file", count=1, replaced_within_s=0.2)
    told = undo_all()
    assert told["not_restored"] == [made["undo"]] and told["undone"] == []
    lines = [json.loads(x) for x in (session.run_dir / "history.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "undo.readback"
    assert lines[-1]["restored"] is False
    assert lines[-1]["observed"] == {"ready": 2, "desired": 3}


def test_a_percentage_is_rounded_up(kubernetes: FakeKubernetes, session: Session) -> None:
    assert pods.kill_pods(A, "file", percent=20)["targets"] == ["file-1 uid-1"]


def test_a_pod_that_took_the_name_meanwhile_is_spared(
    kubernetes: FakeKubernetes, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = Session.make_fault

    def swap_first(self: Session, **arguments: object) -> dict:
        kubernetes.pods["file-1"]["metadata"]["uid"] = "another"
        return intent(self, **arguments)

    monkeypatch.setattr(Session, "make_fault", swap_first)
    pods.kill_pods(A, "file", count=1)
    assert kubernetes.deleted == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"app": "nothing"}, "no ready pod"),
        ({"app": "file", "count": 4}, "only 3 ready"),
        ({"app": "file", "count": 0}, "1 or more"),
        ({"app": "file", "percent": 101}, "at most 100"),
        ({"app": "file", "percent": 50, "count": 1}, "not both"),
        ({"app": "file", "at_most": 2}, "at most 2"),
    ],
)
def test_too_few_or_too_many_targets_are_refused(
    kubernetes: FakeKubernetes, session: Session, arguments: dict, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        pods.kill_pods(A, **arguments)
    assert kubernetes.deleted == []
    assert open_records(session.run_dir) == []


def test_a_pod_that_is_not_ready_is_no_target(kubernetes: FakeKubernetes, session: Session) -> None:
    kubernetes.pods["file-1"]["status"]["conditions"][0]["status"] = "False"
    assert pods.kill_pods(A, "file", count=1)["targets"] == ["file-2 uid-2"]


def test_a_pod_whose_owner_did_not_allow_it_is_not_killed(
    kubernetes: FakeKubernetes, session: Session
) -> None:
    del kubernetes.pods["file-2"]["metadata"]["labels"]["chaos"]
    with pytest.raises(Refused, match=r"file-2 lacks the label chaos=allowed") as raised:
        pods.kill_pods(A, "file", count=2)
    assert raised.value.hint
    assert kubernetes.deleted == []
    pods.kill_pods(A, "file", count=1)
