"""The Kubernetes manifests: readable, and of options that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import cli


@pytest.fixture(scope="module")
def objects(repo: Path) -> dict[tuple[str, str], dict[str, Any]]:
    text = (repo / "ci/kubernetes/load.yaml").read_text()
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(text)}


def container(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


def given(args: list[str]) -> dict[str, str]:
    return dict(arg.split("=", 1) if "=" in arg else (arg, "") for arg in args)


def test_the_master_is_a_command_line_that_harness_can_read(objects: Any, repo: Path) -> None:
    master = container(objects["Job", "harness-master"])
    program, verb, *rest = master["command"] + master["args"]
    assert program == "harness"
    command = cli.commands[verb]
    context = command.make_context(verb, list(rest))
    assert (repo / context.params["locustfile"]).is_file()
    assert context.params["listen"] == ("0.0.0.0", 5557)
    mounts = [mount["mountPath"] for mount in master["volumeMounts"]]
    assert mounts == [str(context.params["runs_root"])]


def test_master_and_workers_are_of_one_run(objects: Any) -> None:
    master, worker = (container(objects["Job", f"harness-{name}"]) for name in ("master", "worker"))
    to_master, from_worker = given(master["args"]), given(worker["args"])
    service = objects["Service", from_worker["--master-host"]]
    assert service["spec"]["selector"].items() <= (
        objects["Job", "harness-master"]["spec"]["template"]["metadata"]["labels"].items()
    )
    port = service["spec"]["ports"][0]["port"]
    assert str(port) == from_worker["--master-port"] == to_master["--listen"].split(":")[1]
    spec = objects["Job", "harness-worker"]["spec"]
    assert spec["parallelism"] == spec["completions"] == int(to_master["--workers"])
    assert worker["image"] == master["image"]
    assert worker["command"][:2] == ["locust", "-f"]
    assert worker["command"][2] == master["command"][2]


def test_the_workers_options_are_locusts(objects: Any, repo: Path) -> None:
    worker = container(objects["Job", "harness-worker"])
    told = subprocess.run(
        [sys.executable, "-m", "locust", "--help"],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert all(option in told for option in given(worker["args"]))
