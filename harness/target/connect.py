"""Connections to a target: AWS, Kubernetes, DNS, Prometheus, each with deadlines.

Everything is explicit, because the implicit way has sent faults to the wrong
account before: one AWS session per target, region and purpose (never boto3's default
session), one Kubernetes configuration per client (never the global one), the
endpoint and the resolver the target names and no other. Retries are few: a
caller that polls asks again anyway, and a fault must not be made twice.

Who asks depends on the purpose (``access`` of the target). Looking is what is meant where
nothing is said: what breaks something, or gives it back, must say so.
"""

from __future__ import annotations

import ipaddress
import threading
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.clock import Clock
from harness.errors import PlanInvalid, Refused
from harness.secrets import learn
from harness.target.model import PURPOSES, Purpose, Target

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from harness.target.prometheus import PrometheusReader

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.0
ATTEMPTS = 2

_lock = threading.Lock()
_sessions: dict[tuple[Any, ...], Any] = {}
_checked: set[tuple[Any, ...]] = set()


class NoAnswer(Exception):
    """The DNS server gave no usable answer; says why."""


def aws(target: Target, service: str, region: str, purpose: Purpose = "observe") -> Any:
    """A boto3 client for ``service`` in ``region``; connect 2 s, read 4 s, 2 attempts.

    Clients are new each time (a caller keeps its own); sessions are shared.
    """
    with _lock:  # creating clients is not thread-safe, using them is
        session = _session(target, region, purpose)
        return session.client(service, endpoint_url=target.aws_endpoint_url, config=_config(target))


def _config(target: Target) -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        # AWS_ENDPOINT_URL of the caller's shell must not redirect this target's calls.
        ignore_configured_endpoint_urls=True,
        proxies={} if _is_loopback(target.aws_endpoint_url) else None,
        s3={"addressing_style": "path"} if target.aws_endpoint_url else None,
    )


def check_account(target: Target, *purposes: Purpose) -> str:
    """The account the credentials for ``purposes`` (by default all) belong to.

    Asked of STS once per target and identity, so each role was assumed once.
    Raises Refused when it is not the target's account; botocore's errors when there
    is no answer, or a role may not be assumed.
    """
    for purpose in purposes or PURPOSES:
        key = _key(target, "", purpose)
        if key in _checked:
            continue
        identity = aws(target, "sts", target.primary, purpose).get_caller_identity()
        if identity["Account"] != target.account:
            raise Refused(
                f"the AWS credentials belong to account {identity['Account']} "
                f"({identity['Arn']}), the target is in {target.account}",
                hint="set AWS_PROFILE in the target's environment to the right profile",
            )
        _checked.add(key)
    return target.account


def kubernetes(target: Target, cluster: str, purpose: Purpose = "observe") -> ApiClient:
    """A Kubernetes client for ``cluster`` (name as in the target), with its own configuration.

    Every request has the timeouts above unless the caller passes ``_request_timeout``.
    Raises PlanInvalid when the kubeconfig or the context cannot be used.
    """
    from kubernetes import client, config

    context = target.cluster(cluster).context
    configuration = client.Configuration()
    try:
        config.load_kube_config(
            config_file=target.kubeconfig,
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except config.ConfigException as error:
        raise PlanInvalid(
            f"kubeconfig {target.kubeconfig}, context {context}: {error}",
            hint="check `kubeconfig` and the cluster's `context` in the target",
        ) from error
    configuration.retries = False
    if _is_loopback(configuration.host):
        configuration.proxy = None
    made = _deadline_client(configuration)
    user = impersonated(target, purpose)
    if user is not None:
        # The API server adds the groups of a service account by itself.
        made.set_default_header("Impersonate-User", user)
    return made


def impersonated(target: Target, purpose: Purpose) -> str | None:
    """The Kubernetes user whose rights are asked for; None: those of the kubeconfig's user."""
    account = target.identity(purpose).service_account
    return None if account is None else f"system:serviceaccount:{account.replace('/', ':')}"


def _deadline_client(configuration: Any) -> ApiClient:
    from kubernetes.client import ApiClient

    class DeadlineClient(ApiClient):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("_request_timeout") is None:
                kwargs["_request_timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            return super().request(*args, **kwargs)

    return DeadlineClient(configuration)


def resolve(target: Target, name: str, timeout_s: float = 1.0) -> list[str]:
    """The IPv4 addresses of ``name``, sorted, asked of the target's DNS server.

    ``[]`` means the name exists without an address or does not exist at all; raises
    :class:`NoAnswer` when there was no answer within ``timeout_s`` or it was an error.
    """
    try:
        return [str(ipaddress.ip_address(name))]
    except ValueError:
        return lookup(target, name, "A", timeout_s)


def lookup(target: Target, name: str, kind: str = "A", timeout_s: float = 1.0) -> list[str]:
    """Record data of type ``kind`` (``A``, ``CNAME``, …) for ``name``, sorted; see resolve."""
    import dns.exception
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=target.dns_server is None)
    if target.dns_server is not None:
        host, port = _host_port(target.dns_server)
        resolver.nameservers, resolver.port = [host], port
    resolver.timeout = resolver.lifetime = timeout_s
    resolver.search = []
    try:
        answer = resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return []
    except dns.exception.DNSException as error:
        raise NoAnswer(f"{name} {kind}: {error}") from error
    except OSError as error:
        raise NoAnswer(f"{name} {kind}: {error}") from error
    return sorted(str(record).rstrip(".") for record in answer.rrset or ())


def prometheus(
    target: Target, *, timeout_s: float = 4.0, clock: Clock | None = None
) -> PrometheusReader:
    """A reader of the target's Prometheus; see :mod:`harness.target.prometheus`."""
    from harness.target.prometheus import PrometheusReader

    return PrometheusReader(
        target.prometheus_url,
        scrape_interval_s=target.scrape_interval_s,
        timeout_s=timeout_s,
        clock=clock,
    )


def _session(target: Target, region: str, purpose: Purpose) -> Any:
    import boto3

    key = _key(target, region, purpose)
    if key not in _sessions:
        env = target.environment
        own = boto3.Session(
            aws_access_key_id=env.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=env.get("AWS_SESSION_TOKEN"),
            profile_name=env.get("AWS_PROFILE"),
            region_name=region,
        )
        has_role = target.identity(purpose).role_arn is not None
        _sessions[key] = _assuming(target, own, purpose) if has_role else own
    return _sessions[key]


def _assuming(target: Target, own: Any, purpose: Purpose) -> Any:
    """A session in the region of ``own`` that works as the role of ``purpose``.

    The role is assumed at the first call, and again before the credentials expire. STS is asked
    in that same region: undoing in one region must not wait for another that is lost.
    """
    import boto3
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
    from botocore.session import Session

    credentials = own.get_credentials()
    if credentials is None:
        raise Refused(
            f"there are no AWS credentials to assume the role to {purpose} with",
            hint="set AWS_PROFILE in the target's environment",
        )
    identity = target.identity(purpose)
    given = {"RoleSessionName": f"harness-{purpose}"}  # what CloudTrail shows
    if identity.external_id is not None:
        given["ExternalId"] = identity.external_id
    fetcher = AssumeRoleCredentialFetcher(
        partial(own.client, endpoint_url=target.aws_endpoint_url, config=_config(target)),
        credentials,
        identity.role_arn,
        extra_args=given,
    )

    def fetch() -> Any:
        fetched = fetcher.fetch_credentials()
        learn((fetched["secret_key"], fetched["token"]))
        return fetched

    session = Session()
    session._credentials = DeferredRefreshableCredentials(fetch, "assume-role")
    return boto3.Session(botocore_session=session, region_name=own.region_name)


def _key(target: Target, region: str, purpose: Purpose) -> tuple[Any, ...]:
    wanted = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    credentials = tuple(target.environment.get(name) for name in wanted)
    identity = target.identity(purpose)
    role = identity.role_arn and (purpose, identity.role_arn, identity.external_id)
    return (target.account, target.aws_endpoint_url, region, credentials, role)


def _host_port(server: str) -> tuple[str, int]:
    parts = urlsplit(f"//{server}")
    return parts.hostname or server, parts.port or 53


def _is_loopback(url: str | None) -> bool:
    host = urlsplit(url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
