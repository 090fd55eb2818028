"""Who the harness is for each purpose: roles that are assumed, service accounts impersonated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sample_target import sample

from harness import secrets
from harness.errors import Refused
from harness.target import connect
from harness.target.model import PURPOSES, Access, Identity, Purpose, Target

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.108.0.11:1"}}]
users: [{name: u, user: {token: lab}}]
contexts: [{name: us-east-1a, context: {cluster: c, user: u}}]
"""


def identity(purpose: Purpose, account: str = "123456789012") -> Identity:
    role = f"arn:aws:iam::{account}:role/harness-{purpose}"
    return Identity(role, f"ours-{purpose}", f"harness/harness-{purpose}")


ACCESS = Access(*(identity(p) for p in PURPOSES))


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.108.0.21", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def target(aws_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    for kept in ("_sessions", "_checked"):
        monkeypatch.setattr(connect, kept, type(getattr(connect, kept))())
    yield sample(aws_endpoint_url=aws_url, access=ACCESS)
    secrets.forget()


@pytest.fixture
def assumed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What STS was asked to let the harness be, and where."""
    from botocore.session import Session

    found: list[dict[str, Any]] = []
    create = Session.create_client

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        client = create(self, *arguments, **options)
        region = client.meta.region_name

        def note(params: dict[str, Any], **_: Any) -> None:
            found.append({**params, "region": region})

        client.meta.events.register("provide-client-params.sts.AssumeRole", note)
        return client

    monkeypatch.setattr(Session, "create_client", watched)
    return found


def key_of(client: Any) -> str:
    return str(client._request_signer._credentials.get_frozen_credentials().access_key)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_role_is_assumed_with_its_external_id_at_the_first_call(
    target: Target, assumed: list[dict[str, Any]], purpose: Purpose
) -> None:
    sts = connect.aws(target, "sts", "us-west-2", purpose)
    assert assumed == []
    said = sts.get_caller_identity()["Arn"]
    assert said == f"arn:aws:sts::123456789012:assumed-role/harness-{purpose}/harness-{purpose}"
    assert assumed == [
        {
            "RoleArn": f"arn:aws:iam::123456789012:role/harness-{purpose}",
            "ExternalId": f"ours-{purpose}",
            "RoleSessionName": f"harness-{purpose}",
            # Where the calls go: another region may be the one that is lost.
            "region": "us-west-2",
        }
    ]


def test_there_is_one_session_per_target_region_and_purpose(
    target: Target, assumed: list[dict[str, Any]]
) -> None:
    everywhere = [(r, p) for r in ("us-east-1", "us-west-2") for p in PURPOSES]
    keys = {(r, p): key_of(connect.aws(target, "ec2", r, p)) for r, p in everywhere}
    assert len(set(keys.values())) == len(assumed) == 6
    for region, purpose in everywhere:
        assert key_of(connect.aws(target, "s3", region, purpose)) == keys[region, purpose]
    assert len(assumed) == 6
    assert key_of(connect.aws(target, "ec2", "us-east-1")) == keys["us-east-1", "observe"]
    own = replace(target, access=None)
    assert key_of(connect.aws(own, "ec2", "us-east-1", "undo")) == "lab"


def test_credentials_are_renewed_before_they_expire(
    target: Target, assumed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sts = connect.aws(target, "sts", "us-east-1", "undo")
    first = key_of(sts)
    assert key_of(sts) == first
    # STS gives them for an hour.
    soon = datetime.now(UTC) + timedelta(minutes=58)
    monkeypatch.setattr("botocore.credentials._local_now", lambda: soon)
    monkeypatch.setattr(sts._request_signer._credentials, "_time_fetcher", lambda: soon)
    assert key_of(sts) != first
    assert len(assumed) == 2


def test_the_account_is_checked_for_every_purpose(
    target: Target, assumed: list[dict[str, Any]]
) -> None:
    assert connect.check_account(target) == "123456789012"
    assert connect.check_account(target) == "123456789012"
    assert [a["RoleSessionName"] for a in assumed] == [f"harness-{p}" for p in PURPOSES]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_role_of_another_account_is_refused(target: Target, purpose: Purpose) -> None:
    elsewhere = replace(ACCESS, **{purpose: identity(purpose, "999999999999")})
    wrong = replace(target, access=elsewhere)
    with pytest.raises(Refused, match=f"account 999999999999.*harness-{purpose}"):
        connect.check_account(wrong)
    for other in PURPOSES:
        if other != purpose:
            assert connect.check_account(wrong, other)


def test_what_sts_gives_is_redacted(target: Target) -> None:
    client = connect.aws(target, "ec2", "us-east-1", "inject")
    given = client._request_signer._credentials.get_frozen_credentials()
    for secret in (given.secret_key, given.token):
        assert secret not in secrets.redact(f"signed with {secret}")
    # It names the role's trust, and opens nothing by itself.
    assert secrets.redact("ours-inject") == "ours-inject"


def test_without_credentials_no_role_is_assumed(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boto3.Session.get_credentials", lambda self: None)
    with pytest.raises(Refused, match="no AWS credentials to assume the role to undo"):
        connect.aws(target, "ec2", "us-east-1", "undo")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_service_account_of_a_purpose_is_impersonated(tmp_path: Any, purpose: Purpose) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    target = sample(kubeconfig=str(path), access=ACCESS)
    client = connect.kubernetes(target, "us-east-1a", purpose)
    user = f"system:serviceaccount:harness:harness-{purpose}"
    assert client.default_headers["Impersonate-User"] == user
    own = connect.kubernetes(replace(target, access=None), "us-east-1a", purpose)
    assert "Impersonate-User" not in own.default_headers
