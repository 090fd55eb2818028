"""Connections go where the target says, and nowhere else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import dns.rrset
import pytest
from sample_target import sample

from harness.errors import PlanInvalid
from harness.target import connect
from harness.target.connect import NoAnswer, lookup, resolve

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.108.0.11:1"}}]
users: [{name: u, user: {token: lab}}]
contexts: [{name: us-east-1a, context: {cluster: c, user: u}}]
"""


@contextmanager
def dns_server(records: dict[tuple[str, str], str] | None) -> Iterator[str]:
    """``host:port`` of a DNS server on loopback; one that never answers for None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.108.0.53", 0))

        def serve() -> None:
            while True:
                try:
                    wire, client = server.recvfrom(4096)
                except OSError:
                    return
                if wire == b"stop":
                    return
                query = dns.message.from_wire(wire)
                answer = dns.message.make_response(query)
                question = query.question[0]
                key = (question.name.to_text(), dns.rdatatype.to_text(question.rdtype))
                if records is None:
                    continue
                if key in records:
                    answer.answer.append(
                        dns.rrset.from_text(question.name, 2, "IN", key[1], *records[key].split())
                    )
                elif not any(name == key[0] for name, _ in records):
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                server.sendto(answer.to_wire(), client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        host, port = server.getsockname()
        yield f"{host}:{port}"
        server.sendto(b"stop", (host, port))
        thread.join(2)


def test_names_are_asked_of_the_targets_server() -> None:
    records = {
        ("api.fileservice.lab.", "A"): "127.108.3.1 127.108.1.1",
        ("db-writer.fileservice.lab.", "CNAME"): "files-db.us-east-1.rds.fileservice.lab.",
    }
    with dns_server(records) as server:
        target = sample(dns_server=server)
        assert resolve(target, "api.fileservice.lab") == ["127.108.1.1", "127.108.3.1"]
        writer = lookup(target, "db-writer.fileservice.lab", "CNAME")
        assert writer == ["files-db.us-east-1.rds.fileservice.lab"]
        assert resolve(target, "nobody.fileservice.lab") == []
        assert resolve(target, "127.108.9.9") == ["127.108.9.9"]


def test_a_silent_dns_server_is_no_answer_within_the_time_given() -> None:
    with dns_server(None) as server:
        began = time.monotonic()
        with pytest.raises(NoAnswer):
            resolve(sample(dns_server=server), "api.fileservice.lab", timeout_s=0.3)
        assert time.monotonic() - began < 0.6


def test_aws_clients_ignore_the_shells_endpoint_and_default_credentials(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.108.9.9:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    target = sample()
    client = connect.aws(target, "rds", "us-west-2")
    assert client.meta.endpoint_url == target.aws_endpoint_url
    assert client.meta.region_name == "us-west-2"
    assert client._request_signer._credentials.access_key == "lab"
    real = connect.aws(sample(aws_endpoint_url=None), "rds", "us-west-2")
    assert real.meta.endpoint_url == "https://rds.us-west-2.amazonaws.com"


def test_aws_clients_of_two_profiles_do_not_share_a_session() -> None:
    """The second profile silently using the first one's credentials breaks the wrong account."""
    one = connect.aws(sample(), "rds", "us-east-1")
    other = sample(environment={"AWS_ACCESS_KEY_ID": "b", "AWS_SECRET_ACCESS_KEY": "b"})
    two = connect.aws(other, "rds", "us-east-1")
    assert one._request_signer._credentials.access_key == "lab"
    assert two._request_signer._credentials.access_key == "b"


def test_aws_clients_have_deadlines_and_two_attempts() -> None:
    config = connect.aws(sample(), "rds", "us-east-1").meta.config
    assert (config.connect_timeout, config.read_timeout) == (2.0, 4.0)
    assert config.retries["total_max_attempts"] == 2


def test_kubernetes_clients_leave_the_global_configuration_alone(tmp_path, monkeypatch) -> None:
    from kubernetes.client import Configuration

    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    monkeypatch.setenv("HTTP_PROXY", "http://127.108.9.9:3128")
    before = Configuration.get_default_copy().host
    client = connect.kubernetes(sample(kubeconfig=str(path)), "us-east-1a")
    assert client.configuration.host == "http://127.108.0.11:1"
    assert client.configuration.proxy is None
    assert Configuration.get_default_copy().host == before


def test_kubernetes_requests_have_a_deadline_of_their_own(tmp_path, monkeypatch) -> None:
    from kubernetes.client import CoreV1Api

    path = tmp_path / "kubeconfig"
    with socket.create_server(("127.108.0.11", 0), backlog=8) as silent:
        port = silent.getsockname()[1]
        path.write_text(KUBECONFIG.replace(':1"', f':{port}"'))
        monkeypatch.setattr(connect, "READ_TIMEOUT_S", 0.3)
        client = connect.kubernetes(sample(kubeconfig=str(path)), "us-east-1a")
        began = time.monotonic()
        with pytest.raises(Exception, match="timed out"):
            CoreV1Api(client).list_node()
        assert time.monotonic() - began < 0.8


def test_a_missing_context_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    with pytest.raises(PlanInvalid) as caught:
        connect.kubernetes(sample(kubeconfig=str(path)), "us-west-2")
    assert "us-west-2" in str(caught.value)
    assert str(path) in str(caught.value)
