"""The lab as a whole: it comes up, one API's change is true everywhere, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from harness.errors import LabError
from harness.lab import handle, layout
from harness.lab.handle import Running
from harness.lab.layout import Layout
from tests.lab.whole import lab as running_lab
from tests.lab.whole import processes_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


def until(condition: Callable[[], Any], deadline_s: float, what: str) -> float:
    """Wait until ``condition`` holds; seconds it took."""
    start = time.monotonic()
    while time.monotonic() - start < deadline_s:
        if condition():
            return time.monotonic() - start
        time.sleep(0.05)
    pytest.fail(f"{what}: not within {deadline_s:g} s")


def aws(running: Running, service: str, region: str) -> Any:
    session = boto3.session.Session(
        aws_access_key_id="lab", aws_secret_access_key="lab", region_name=region
    )
    url = f"http://{Layout(running.base).aws}:{layout.AWS_PORT}"
    return session.client(
        service, endpoint_url=url, config=Config(connect_timeout=2, read_timeout=5)
    )


def status(running: Running) -> dict[str, Any]:
    return handle.status(running)


def connects(host: str, port: int, timeout_s: float = 0.3) -> str:
    """``open``, ``refused`` or ``timeout``."""
    try:
        socket.create_connection((host, port), timeout_s).close()
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    return "open"


def answers(host: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{host}:{layout.LB_PORT}/health", timeout=1) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def isolate(running: Running, region: str, zone: str) -> Callable[[], None]:
    """Deny everything on the zone's subnets through EC2; returns the undo."""
    ec2 = aws(running, "ec2", region)
    zones = [
        {"Name": "availability-zone", "Values": [zone]},
        {"Name": "tag:chaos", "Values": ["allowed"]},
    ]
    subnets = ec2.describe_subnets(Filters=zones)["Subnets"]
    assert subnets
    acl = ec2.create_network_acl(VpcId=subnets[0]["VpcId"])["NetworkAcl"]["NetworkAclId"]
    before = []
    for subnet in subnets:
        found = ec2.describe_network_acls(
            Filters=[{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}]
        )["NetworkAcls"][0]
        association = next(a for a in found["Associations"] if a["SubnetId"] == subnet["SubnetId"])
        new = ec2.replace_network_acl_association(
            AssociationId=association["NetworkAclAssociationId"], NetworkAclId=acl
        )
        before.append((new["NewAssociationId"], found["NetworkAclId"]))

    def undo() -> None:
        for association_id, old_acl in before:
            ec2.replace_network_acl_association(AssociationId=association_id, NetworkAclId=old_acl)
        ec2.delete_network_acl(NetworkAclId=acl)

    return undo


def healthy(running: Running) -> bool:
    found = status(running)
    pods = all(
        n.split("/")[0] == n.split("/")[1] for c in found["pods"].values() for n in c.values()
    )
    targets = all(ok for region in found["targets"].values() for ok in region.values())
    return pods and targets and not found["cut_off"] and found["recovery"] == "normal"


def hear_ctrl_c() -> None:
    """What a shell put into the background is deaf to SIGINT, and so is all it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_it_is_up_in_under_20_s_within_1_5_gib(lab: Running) -> None:
    found = status(lab)
    assert lab.boot_s < 20
    assert 0.1 * 2**30 < handle.memory_bytes(lab) < 1.5 * 2**30
    assert {v["role"] for v in found["databases"].values()} == {"primary", "replica"}


def test_the_same_state_folder_cannot_be_used_twice(lab: Running) -> None:
    with pytest.raises(LabError, match="already up"):
        handle.up(lab.target_file.parent)


def test_a_zone_behind_a_denying_acl_is_a_black_hole_and_comes_back(lab: Running) -> None:
    network = Layout(lab.base)
    pods = [
        f"{ip.rpartition(':')[0]}"
        for ip in status(lab)["targets"]["us-east-1"]
        if ip.startswith(f"127.{lab.base}.10.")
    ]
    db = network.db("us-east-1a")
    members = [(db, layout.DB_PORT), *((ip, layout.POD_PORT) for ip in pods)]

    def dark() -> bool:
        """Whether all of it is out of reach, looked at at the same time."""
        with ThreadPoolExecutor(len(members)) as threads:
            return set(threads.map(lambda member: connects(*member), members)) == {"timeout"}

    def cut_off() -> tuple[Callable[[], None], float]:
        """How to undo it, and how long it took: what is too slow is so each time, while a machine
        that has no processor free for a moment is not."""
        for _ in range(2):
            undo = isolate(lab, "us-east-1", "us-east-1a")
            took = until(dark, 3, "out of reach")
            if took < 1.5:
                return undo, took
            undo()
            until(lambda: connects(db, layout.DB_PORT) == "open", 30, "zone back")
        undo = isolate(lab, "us-east-1", "us-east-1a")
        return undo, until(dark, 3, "out of reach")

    undo, took = cut_off()
    try:
        assert took < 1.5
        until(
            lambda: status(lab)["databases"]["files-db"]["zone"] == "us-east-1b",
            20,
            "Multi-AZ failover",
        )
        assert answers(network.lb("us-east-1")) == 200
    finally:
        undo()
    until(lambda: connects(db, layout.DB_PORT) == "open", 10, "zone back")
    until(lambda: healthy(lab), 40, "lab healthy again")
    until(
        lambda: all(v["status"] == "available" for v in status(lab)["databases"].values()),
        20,
        "databases available",
    )


def test_a_zone_that_was_away_for_a_moment_gets_its_database_back(lab: Running) -> None:
    until(lambda: healthy(lab), 60, "lab healthy before")
    # Which zone it is in depends on what failed over before.
    zone = status(lab)["databases"]["files-db-replica-b"]["zone"]
    standby = Layout(lab.base).db(zone)
    undo = isolate(lab, "us-east-1", zone)
    until(lambda: zone in status(lab)["cut_off"], 3, "zone cut off")
    undo()
    # Its member starts over as a copy, and is not counted on before it has.
    until(
        lambda: status(lab)["databases"]["files-db-replica-b"]["status"] != "available",
        3,
        "replica known to be away",
    )
    until(lambda: connects(standby, layout.DB_PORT) == "open", 30, "replica back")
    until(
        lambda: status(lab)["databases"]["files-db-replica-b"]["status"] == "available",
        10,
        "replica available",
    )


def test_the_primary_region_fails_over_and_back(lab: Running) -> None:
    undos = [isolate(lab, "us-east-1", zone) for zone in ("us-east-1a", "us-east-1b")]
    try:
        until(
            lambda: connects(Layout(lab.base).lb("us-east-1"), layout.LB_PORT) == "timeout",
            3,
            "load balancer out of reach",
        )
        until(
            lambda: status(lab)["databases"]["files-db-west"]["role"] == "primary",
            30,
            "standby promoted",
        )
        assert status(lab)["recovery"] in ("activating", "standby-active")
        until(lambda: answers(Layout(lab.base).edge) == 200, 15, "the edge goes to the standby")
    finally:
        for undo in undos:
            undo()
    until(lambda: status(lab)["databases"]["files-db"]["role"] == "primary", 40, "handed back")
    until(lambda: healthy(lab), 60, "lab healthy again")


def test_with_root_the_kernel_drops_what_goes_to_a_lost_zone(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    if os.geteuid() != 0:
        with pytest.raises(LabError, match="leave --network away"):
            handle.up(state_dir, network="nft")
        assert not processes_of(state_dir)
        return
    with running_lab(state_dir, network="nft") as filtering:
        database = Layout(filtering.base).db("us-east-1a")
        undo = isolate(filtering, "us-east-1", "us-east-1a")
        until(lambda: connects(database, layout.DB_PORT) == "timeout", 3, "zone out of reach")
        assert answers(Layout(filtering.base).lb("us-west-2")) == 200
        undo()
        until(lambda: connects(database, layout.DB_PORT) == "open", 10, "zone back")
        until(lambda: healthy(filtering), 40, "lab healthy again")


def test_stopped_instances_take_their_node_away(lab: Running) -> None:
    ec2 = aws(lab, "ec2", "us-east-1")
    found = ec2.describe_instances(
        Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}]
    )["Reservations"]
    instance = found[0]["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[instance])
    try:
        until(lambda: any(g.startswith("node:") for g in status(lab)["cut_off"]), 3, "node cut off")
    finally:
        ec2.start_instances(InstanceIds=[instance])
    until(lambda: healthy(lab), 60, "lab healthy again")


def test_two_labs_do_not_collide_and_a_killed_supervisor_leaves_nothing(
    lab: Running, tmp_path: Path
) -> None:
    state_dir = tmp_path / "second"
    with running_lab(state_dir) as second:
        assert second.base != lab.base
        assert healthy(lab)
        os.kill(second.pid, signal.SIGKILL)
        until(lambda: not processes_of(state_dir), 5, "every process of the killed lab gone")
        assert handle.find(state_dir) is None
    assert healthy(lab)


def test_a_killed_pod_is_replaced_by_a_new_name_after_the_delay_asked_for(tmp_path: Path) -> None:
    from kubernetes import client, config

    state_dir = tmp_path / "state"
    with running_lab(state_dir, pod_start_delay_s=60.0):
        api = client.CoreV1Api(
            config.new_client_from_config(str(state_dir / "kubeconfig"), "us-east-1a")
        )

        def pods() -> dict[str, bool]:
            found = api.list_namespaced_pod("files", label_selector="app=file").items
            return {
                pod.metadata.name: all(c.ready for c in pod.status.container_statuses or [])
                for pod in found
                if not pod.metadata.deletion_timestamp
            }

        before = pods()
        victim = next(iter(before))
        api.delete_namespaced_pod(victim, "files")
        until(lambda: len(pods()) == len(before) and victim not in pods(), 10, "replaced")
        time.sleep(4.0)
        (new,) = pods().keys() - before.keys()
        assert pods() == {**{name: True for name in before if name != victim}, new: False}


def test_going_down_leaves_nothing(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with running_lab(state_dir) as running:
        assert len(processes_of(state_dir)) > 5
        edge = Layout(running.base).edge
        assert connects(edge, layout.EDGE_PORT) == "open"
    assert not Path("/proc", str(running.pid)).exists(), "not even as a zombie"
    until(lambda: not processes_of(state_dir), 3, "every process gone")
    assert not (state_dir / "lab.json").exists()
    assert connects(edge, layout.EDGE_PORT) == "refused"


def test_a_taken_address_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind((Layout(59).aws, layout.AWS_PORT))
        with pytest.raises(LabError, match=str(layout.AWS_PORT)):
            handle.up(tmp_path / "state", base=59)
    assert not processes_of(tmp_path / "state")


def test_ctrl_c_while_it_boots_takes_it_down(tmp_path: Path) -> None:
    state_dir = tmp_path / ".lab"
    with subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "lab", "up"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(handle.__file__).parents[2])},
        preexec_fn=hear_ctrl_c,
    ) as booting:
        until(lambda: len(processes_of(state_dir)) > 3, 20, "boot under way")
        booting.send_signal(signal.SIGINT)
        booting.wait(30)
    until(lambda: not processes_of(state_dir), 3, "every process gone")


def test_replication_lag_can_be_seen_and_set(lab: Running) -> None:
    before = handle.replication(lab, "us-east-1", {})
    assert before["pending"] == 0
    after = handle.replication(lab, "us-east-1", {"lag_s": 1.5})
    assert after["lag_s"] == 1.5
    handle.replication(lab, "us-east-1", {"lag_s": before["lag_s"]})
    assert json.dumps(after)


def test_the_lab_goes_down_after_the_process_it_was_started_for(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with subprocess.Popen(["sleep", "600"]) as owner:
        handle.up(state_dir, owner=owner.pid)
        owner.kill()
    until(lambda: not processes_of(state_dir), 25, "every process gone")


def test_ctrl_c_in_the_foreground_takes_it_down(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "lab", "up", "--foreground"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(handle.__file__).parents[2])},
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    assert "lab is up" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    until(lambda: not processes_of(tmp_path / ".lab"), 3, "every process gone")
