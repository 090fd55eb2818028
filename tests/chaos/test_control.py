"""The control gives stock tools the target, and leaves nothing open."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.chaos import control
from harness.chaos import session as sessions
from harness.chaos.actions import network
from harness.chaos.session import Session
from harness.chaos.undo import open_records

from .conftest import Cloud
from .fake_kubernetes import FakeKubernetes


def test_stock_kubernetes_tools_reach_the_target_though_imported_before(
    cloud: Cloud, kubernetes: FakeKubernetes, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chaosk8s import create_k8s_api_client
    from kubernetes.config import kube_config

    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere")
    control.configure_control(fault="zone")
    client = create_k8s_api_client({"KUBERNETES_CONTEXT": "us-east-1a"})
    assert client.configuration.host == kubernetes.url


def test_what_the_rollbacks_left_open_is_undone_and_stamped(cloud: Cloud, session: Session) -> None:
    made = network.isolate_zone("us-east-1a")
    journal: dict = {"status": "completed", "rollbacks": [{"status": "failed"}]}
    control.after_experiment_control(None, journal)
    assert cloud.healthy()
    assert journal["status"] == "completed"
    assert journal[control.JOURNAL_KEY]["undo"]["undone"] == [made["undo"]]


def test_an_undo_that_fails_makes_the_experiment_fail(cloud: Cloud, session: Session) -> None:
    network.isolate_zone("us-east-1a")
    session._reach_for = lambda path: None  # type: ignore[assignment, return-value]
    journal: dict = {"status": "completed", "rollbacks": []}
    control.after_experiment_control(None, journal)
    assert journal["status"] == "failed"
    assert len(open_records(session.run_dir)) == 1


def test_pods_that_did_not_come_back_make_the_experiment_deviate(
    kubernetes: FakeKubernetes, session: Session
) -> None:
    output = {"undone": [], "not_restored": ["zone-1"], "failed": []}
    journal: dict = {
        "status": "completed",
        "rollbacks": [{"status": "succeeded", "output": output}],
    }
    control.after_experiment_control(None, journal)
    assert journal["deviated"] is True


def test_cleaning_up_undoes_and_closes_the_evidence(cloud: Cloud, session: Session) -> None:
    network.isolate_zone("us-east-1a")
    control.cleanup_control()
    assert cloud.healthy() and sessions.existing() is None
    history = (Path(session.run_dir) / "history.jsonl").read_text()
    assert '"kind":"source.end"' in history.splitlines()[-1]
