"""Probes for hypotheses: each ends within its deadline, and what cannot be told is not a yes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from harness.chaos import http
from harness.chaos import session as sessions
from harness.chaos.registry import Reach
from harness.errors import Refused
from harness.target import connect, rollouts
from harness.target.kube import get_json
from harness.target.model import Target

logger = logging.getLogger("chaostoolkit")

REQUEST_TIMEOUT_S = 2.0
#: Answers name their region in this header where the service does so.
REGION_HEADER = "x-served-region"


def service_answers(min_ok: int = 3, of: int = 3, timeout_s: float = 2.0) -> bool:
    """Whether at least ``min_ok`` of ``of`` health requests are answered with 2xx.

    Each resolves the service's name anew at the target's DNS and has ``timeout_s`` seconds.
    """
    if not 1 <= min_ok <= of:
        raise Refused(f"min_ok is from 1 to of={of}, not {min_ok}")
    target = sessions.current().reach.target
    oks = sum(_healthy_at(target, timeout_s) is not None for _ in range(of))
    logger.info(f"{oks} of {of} health requests answered")
    return oks >= min_ok


def served_by(region: str, timeout_s: float = 2.0) -> bool:
    """Whether DNS answers with addresses of ``region`` only and the service answers there."""
    target = sessions.current().reach.target
    own = set(target.region(region).addresses)
    if not own:
        raise Refused(
            f"the target file gives region {region} no addresses",
            hint="list the addresses of its load balancer under `addresses`",
        )
    try:
        answer = set(connect.resolve(target, _host(target)))
    except connect.NoAnswer as error:
        logger.info(f"DNS: {error}")
        return False
    if not answer or not answer <= own:
        return False
    headers = _healthy_at(target, timeout_s, sorted(answer)[0])
    return headers is not None and headers.get(REGION_HEADER, region) == region


def app_ready(cluster: str, app: str) -> bool:
    """Whether every Deployment and Rollout selecting ``app=APP`` has all its replicas ready.

    Raises Refused if there is none, or none wants a replica: nothing was seen, then.
    """
    reach: Reach = sessions.current().reach
    namespace = reach.target.namespace
    found = [
        item
        for item in _delivered(reach, cluster, namespace)
        if ((item["spec"].get("selector") or {}).get("matchLabels") or {}).get("app") == app
    ]
    if sum(item["spec"].get("replicas", 1) for item in found) == 0:
        raise Refused(
            f"no Deployment and no Rollout of {cluster}/{namespace} wants a pod with app={app}",
            hint="check cluster and app",
        )
    return all(
        (item.get("status") or {}).get("readyReplicas", 0) >= item["spec"].get("replicas", 1)
        for item in found
    )


def _delivered(reach: Reach, cluster: str, namespace: str) -> Iterator[dict[str, Any]]:
    """All that keeps replicas of a version: Deployments and, where they are known, Rollouts."""
    from kubernetes.client.exceptions import ApiException

    client = reach.kubernetes(cluster)
    yield from get_json(client, f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    try:
        yield from get_json(client, rollouts.path(namespace))["items"]
    except ApiException as error:
        # Argo Rollouts is not installed there.
        if error.status != 404:
            raise


def prometheus_value(
    query: str, at_least: float | None = None, at_most: float | None = None
) -> bool:
    """Whether the one fresh, finite value of ``query`` lies within the bounds.

    Raises PrometheusGap for an empty, NaN, old, partial or several-series answer.
    """
    if at_least is None and at_most is None:
        raise Refused("give at_least, at_most or both")
    reader = connect.prometheus(sessions.current().reach.target)
    try:
        value = reader.instant(query).value
    finally:
        reader.close()
    logger.info(f"{query} = {value}")
    return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)


def _healthy_at(
    target: Target, timeout_s: float, address: str | None = None
) -> dict[str, str] | None:
    """Headers of a 2xx answer to a health request, or None."""
    url = target.service_url.rstrip("/") + target.health_path
    try:
        where = address or connect.resolve(target, _host(target), timeout_s)[0]
        answer = http.get(url, where, timeout_s)
    except (OSError, IndexError, connect.NoAnswer) as error:
        logger.info(f"{url}: {error or 'no address'}")
        return None
    return answer.headers if 200 <= answer.status < 300 else None


def _host(target: Target) -> str:
    return urlsplit(target.service_url).hostname or ""
