"""Kubernetes answers read as plain JSON.

The client's typed models cost more to build than the answers to fetch, and an
observer polls for the whole run; these few functions read what is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def get_json(api: Any, path: str, **query: Any) -> dict[str, Any]:
    """``GET path`` by an ApiClient as decoded JSON; raises the client's errors."""
    response = api.call_api(
        path,
        "GET",
        query_params=list(query.items()),
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    try:
        answer: dict[str, Any] = json.loads(response.data)
    finally:
        response.release_conn()
    return answer


def patch_json(api: Any, path: str, change: Any, kind: str) -> None:
    """``PATCH path`` with ``change`` of content type ``kind``; raises the client's errors."""
    response = api.call_api(
        path,
        "PATCH",
        body=change,
        header_params={"Accept": "application/json", "Content-Type": kind},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    response.drain_conn()
    response.release_conn()


def is_ready(item: Mapping[str, Any]) -> bool:
    """Whether a pod's or node's Ready condition is True."""
    conditions = item.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def node_counts(nodes: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """``(ready, total)``; a cordoned node still counts as ready."""
    ready = [is_ready(node) for node in nodes]
    return sum(ready), len(ready)


def app_of(pod: Mapping[str, Any]) -> str | None:
    """The application a pod belongs to, by its label."""
    labels = pod["metadata"].get("labels") or {}
    return labels.get("app") or labels.get("app.kubernetes.io/name")


def pods_by_app(pods: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``{app: {"ready": n, "total": n, "uids": [...]}}`` of pods that are here to stay.

    A pod being deleted counts no more, nor does one that ran to its end.
    """
    found: dict[str, dict[str, Any]] = {}
    for pod in pods:
        app = app_of(pod)
        if app is None:
            continue
        seen = found.setdefault(app, {"ready": 0, "total": 0, "uids": []})
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if ended or pod["metadata"].get("deletionTimestamp"):
            continue
        seen["ready"] += is_ready(pod)
        seen["total"] += 1
        seen["uids"].append(pod["metadata"]["uid"])
    for seen in found.values():
        seen["uids"].sort()
    return found
