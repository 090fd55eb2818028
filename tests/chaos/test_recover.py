"""Undoing from the log alone, from another machine, and by hand; and who is told when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.chaos.actions import network
from harness.chaos.page import page
from harness.chaos.registry import kubectl, reach_for
from harness.chaos.session import Session
from harness.chaos.undo import (
    LOG_NAME,
    Failure,
    UndoReport,
    by_hand,
    open_records,
    undo_function,
)
from harness.cli import cli
from harness.errors import ExitStatus, PlanInvalid, Refused
from harness.target.model import PURPOSES, Access, Identity, Pager, Target
from harness.target.reader import read_target, write_target
from tests.target.sample_target import sample

from .conftest import Cloud
from .test_undo import record

SHIM = Path(__file__).with_name("aws_shim.py")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "lab")


@pytest.fixture
def isolated(cloud: Cloud, session: Session) -> Cloud:
    """The zone is cut off, and nobody has undone it."""
    network.isolate_zone("us-east-1a")
    assert not cloud.healthy()
    return cloud


def recover(*words: object) -> Result:
    return CliRunner().invoke(cli, ["recover", *map(str, words)], standalone_mode=False)


def elsewhere(cloud: Cloud, folder: Path) -> Path:
    """The target file as another machine has it."""
    path = folder / "elsewhere.yaml"
    shutil.copy(cloud.target_file, path)
    cloud.target_file.unlink()
    reach_for.cache_clear()
    return path


def test_a_log_alone_is_enough_on_another_machine(
    isolated: Cloud, run_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "copied.jsonl"
    shutil.copy(run_dir / LOG_NAME, log)
    target = elsewhere(isolated, tmp_path)
    assert recover(log, "--target", target).return_value == 0
    assert isolated.healthy()
    again = recover(log, "--target", target)
    assert (again.return_value, again.output) == (0, "nothing to undo\n")


def test_an_object_in_s3_is_enough_and_is_written_before_the_fault(
    cloud: Cloud, session: Session, run_dir: Path, tmp_path: Path
) -> None:
    s3 = session.reach.aws("s3", "us-east-1")
    with_copy = replace(cloud.target, undo_copy="s3://undo-logs/games/")
    session.reach.target = with_copy
    with pytest.raises(Refused, match="cannot be copied to s3://undo-logs/games/"):
        network.isolate_zone("us-east-1a")
    assert cloud.healthy()
    s3.create_bucket(Bucket="undo-logs")
    network.isolate_zone("us-east-1a")
    assert not cloud.healthy()
    place = f"s3://undo-logs/games/{run_dir.parent.name}/{run_dir.name}/{LOG_NAME}"
    target = elsewhere(cloud, tmp_path)
    assert recover(place, "--target", target).return_value == 0
    assert cloud.healthy()
    assert recover(place, "--target", target).output == "nothing to undo\n"


def test_all_of_a_folder_are_recovered(isolated: Cloud, run_dir: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs" / "lab" / "now"
    shutil.copytree(run_dir, place)
    done = recover("--all", "--runs", tmp_path / "runs")
    assert done.return_value == 0 and "undone and read back: zone-" in done.output
    assert isolated.healthy() and open_records(place) == []
    assert recover("--all", "--runs", tmp_path / "runs").output == "nothing to undo\n"


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    assert "no such run folder" in str(recover(tmp_path / "none").exception)
    assert "which run?" in str(recover().exception)


def test_the_lines_for_a_shell_undo_it(isolated: Cloud, run_dir: Path, tmp_path: Path) -> None:
    (one,) = open_records(run_dir)
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(f'#!/bin/sh\nexec {sys.executable} {SHIM} "$@"\n')
    aws.chmod(0o755)
    path = f"{aws.parent}:{os.environ['PATH']}"
    for line in by_hand(one):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert isolated.healthy()


def test_the_lines_of_kubernetes_are_those_of_who_undoes() -> None:
    who = {p: Identity(service_account=f"harness/harness-{p}") for p in PURPOSES}
    told = " ".join(kubectl(sample(access=Access(**who)), "us-west-2", "files"))
    assert "--as system:serviceaccount:harness:harness-undo --context us-west-2" in told
    assert "--as" not in kubectl(sample(), "us-west-2", "files")


def test_the_lines_of_kubernetes_name_where_and_what(cloud: Cloud) -> None:
    delivered = {
        "cluster": "us-east-1a", "namespace": "files", "kind": "rollout", "name": "gateway",
        "container": 0, "image": "gateway:1", "delivered": "gateway:2",
    }  # fmt: skip
    (line,) = undo_function("delivery.restore").by_hand(delivered, cloud.target)
    assert line.startswith(f"kubectl --kubeconfig {cloud.target.kubeconfig} --context us-east-1a ")
    assert "patch rollout/gateway --type json" in line
    assert json.loads(line.partition("--patch '")[2].rstrip("'"))[1] == {
        "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "gateway:1",
    }  # fmt: skip
    pods = {"cluster": "us-east-1a", "namespace": "files", "app": "file"}
    (line,) = undo_function("pods.verify_replaced").by_hand(pods, None)
    assert line == "kubectl --context us-east-1a --namespace files get pods --selector app=file"


def test_what_cannot_be_undone_is_told_with_the_lines_to_type(
    isolated: Cloud, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.chaos.undo.BACKOFF_S", 0.01)
    unreachable = tmp_path / "unreachable.yaml"
    write_target(replace(isolated.target, aws_endpoint_url="http://127.107.0.99:9"), unreachable)
    done = recover(run_dir, "--target", unreachable)
    assert done.return_value == ExitStatus.UNDO_INCOMPLETE
    assert "STILL IN PLACE: zone (network.restore" in done.output
    assert "    aws --region us-east-1 --endpoint-url http://127.107.0.99:9 ec2 " in done.output
    assert recover(run_dir).return_value == 0 and isolated.healthy()


# ── paging ─────────────────────────────────────────────────────────────────────────────


class Pagers:
    """Takes pages; answers ``status``."""

    def __init__(self) -> None:
        taken: list[tuple[str, Any]] = []
        self.taken, self.status = taken, 202

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                taken.append((handler.path, json.loads(body)))
                handler.send_response(self.status)
                handler.send_header("Location", "/elsewhere")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.107.1.2", 0), Handler)
        self.url = f"http://127.107.1.2:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def pagers() -> Iterator[Pagers]:
    found = Pagers()
    yield found
    found.server.shutdown()
    found.server.server_close()


REPORT = UndoReport(failed=(Failure(record("zone"), "TimeoutError: late", ("aws ec2 …",)),))


def with_pager(cloud: Cloud, url: str, key: str | None = None) -> Target:
    return replace(cloud.target, pager=Pager(url, key))


def test_who_is_on_call_is_told_what_is_left_and_what_to_type(
    cloud: Cloud, pagers: Pagers, run_dir: Path
) -> None:
    assert page(with_pager(cloud, pagers.url), run_dir, REPORT) == "paged: HTTP 202"
    ((path, told),) = pagers.taken
    assert path == "/hook" and told["faults"] == ["zone"] and told["by_hand"] == ["aws ec2 …"]
    lines = told["text"].splitlines()
    assert lines[0] == "harness could not undo zone on test"
    assert lines[1:] == ["zone: TimeoutError: late", f"harness recover {run_dir}", "aws ec2 …"]
    page(with_pager(cloud, pagers.url, "k" * 32), run_dir, REPORT)
    event = pagers.taken[1][1]
    assert (event["routing_key"], event["event_action"]) == ("k" * 32, "trigger")
    assert event["payload"]["severity"] == "critical" and event["payload"]["source"] == "test"


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_page_that_was_not_taken_is_said_and_no_redirect_followed(
    status: int, cloud: Cloud, pagers: Pagers, run_dir: Path
) -> None:
    pagers.status = status
    assert page(with_pager(cloud, pagers.url), run_dir, REPORT) == f"NOT PAGED: HTTP {status}"
    assert [path for path, _ in pagers.taken] == ["/hook"]
    nobody = with_pager(cloud, "http://127.107.1.2:9/")
    assert page(nobody, run_dir, REPORT) == "NOT PAGED: URLError"
    assert page(cloud.target, run_dir, REPORT).startswith("nobody is paged")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pager": Pager("http://169.254.169.254/")}, "link-local"),
        ({"pager": Pager("slack")}, "is not a URL"),
        ({"undo_copy": "undo-logs"}, "is not a place in S3"),
    ],
)
def test_a_pager_or_a_place_for_copies_that_cannot_be_is_refused(
    changes: dict[str, Any], said: str, cloud: Cloud, tmp_path: Path
) -> None:
    path = tmp_path / "odd.yaml"
    write_target(replace(cloud.target, **changes), path)
    with pytest.raises(PlanInvalid, match=said):
        read_target(path)
