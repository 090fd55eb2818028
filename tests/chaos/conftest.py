"""A stand-in cloud for the fault tests: moto's AWS API as a process, and a small Kubernetes API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.chaos import session as sessions
from harness.chaos.registry import Reach, reach_for
from harness.chaos.session import Session
from harness.clock import SystemClock
from harness.target.model import Cluster, Region, Target
from harness.target.reader import write_target

from .fake_kubernetes import FakeKubernetes

HOST = "127.107.0.20"


@pytest.fixture(scope="session")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "moto.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
    )
    url = f"http://{HOST}:{port}"
    try:
        deadline = time.monotonic() + 30
        while not _answers(f"{url}/moto-api/data.json"):
            assert time.monotonic() < deadline and process.poll() is None, "moto did not start"
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes("127.107.0.11") as fake:
        yield fake


class Cloud:
    """A VPC in us-east-1 with one subnet in each of two zones, as a target describes it."""

    def __init__(self, url: str, kubernetes_url: str, folder: Path) -> None:
        import boto3

        self.ec2 = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
        )
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = {z: self._subnet(z, n) for n, z in enumerate(("us-east-1a", "us-east-1b"))}
        self.default_acl = self._acls()[0]["NetworkAclId"]
        self.target_file = folder / "target.yaml"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(_KUBECONFIG.replace("URL", kubernetes_url))
        self.target = Target(
            name="test",
            simulated=True,
            time_scale=1.0,
            service_url="http://127.107.1.1:8080",
            primary="us-east-1",
            standby="us-west-2",
            account="123456789012",
            regions=(
                Region(
                    "us-east-1",
                    None,
                    None,
                    None,
                    self.vpc,
                    {z: (s,) for z, s in self.subnets.items()},
                    ("127.107.1.1",),
                ),
                Region("us-west-2", None, None, None, None, {}, ("127.107.3.1",)),
            ),
            clusters=(Cluster("us-east-1a", "us-east-1a", "us-east-1", "us-east-1a"),),
            databases=(),
            namespace="files",
            kubeconfig=str(kubeconfig),
            prometheus_url="http://127.107.0.90:9090",
            aws_endpoint_url=url,
            environment={"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"},
        )
        write_target(self.target, self.target_file)

    def _subnet(self, zone: str, number: int) -> str:
        subnet = self.ec2.create_subnet(
            VpcId=self.vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone
        )["Subnet"]["SubnetId"]
        self.ec2.create_tags(Resources=[subnet], Tags=[{"Key": "chaos", "Value": "allowed"}])
        return str(subnet)

    def _acls(self) -> list[dict]:
        filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
        return self.ec2.describe_network_acls(Filters=filters)["NetworkAcls"]

    def acl_of(self, zone: str) -> str:
        """The id of the network ACL the zone's subnet has."""
        return next(
            a["NetworkAclId"]
            for acl in self._acls()
            for a in acl["Associations"]
            if a["SubnetId"] == self.subnets[zone]
        )

    def healthy(self) -> bool:
        """Every subnet has the ACL it began with, and no other ACL exists."""
        return [a["NetworkAclId"] for a in self._acls()] == [self.default_acl] and all(
            self.acl_of(z) == self.default_acl for z in self.subnets
        )

    def acl_count(self) -> int:
        return len(self._acls())


_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "URL"}}]
users: [{name: lab, user: {token: lab}}]
contexts: [{name: us-east-1a, context: {cluster: a, user: lab}}]
current-context: us-east-1a
"""


@pytest.fixture
def cloud(aws_url: str, kubernetes: FakeKubernetes, tmp_path: Path) -> Cloud:
    return Cloud(aws_url, kubernetes.url, tmp_path)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def session(cloud: Cloud, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """This process as an experiment's process, with somebody watching it (not really)."""
    monkeypatch.setattr(sessions, "is_watching", lambda run_dir: True)
    reach = Reach(cloud.target)
    session = Session(
        target_file=cloud.target_file,
        run_dir=run_dir,
        fault="zone",
        clock=SystemClock(),
        reach=lambda path: reach,
    )
    sessions.use(session)
    yield session
    session.close()
    sessions.use(None)
    reach_for.cache_clear()
