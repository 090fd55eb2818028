"""The HTTP interface, as a client without any library sees it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.lab.kube.kinds import Kind
from tests.lab.kube.kube_world import LabCluster


@pytest.fixture()
def bare(tmp_path: Path) -> Iterator[LabCluster]:
    """A cluster without pods, that remembers 20 changes only."""
    made = LabCluster(tmp_path, 20, history=20)
    try:
        yield made
    finally:
        made.close()


def call(
    cluster: LabCluster,
    method: str,
    path: str,
    body: Any = None,
    content_type: str = "application/json",
    accept: str = "application/json",
) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": content_type, "Accept": accept}
    url = cluster.cluster.url + path
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def lines(cluster: LabCluster, path: str) -> list[dict[str, Any]]:
    """All events of a watch until it ends."""
    with urllib.request.urlopen(cluster.cluster.url + path, timeout=10) as answer:
        return [json.loads(line) for line in answer]


MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}}


def test_a_stale_version_is_a_conflict_and_a_second_create_too(bare: LabCluster) -> None:
    _, first = call(bare, "POST", MAPS, config_map("a"))
    code, again = call(bare, "POST", MAPS, config_map("a"))
    assert (code, again["reason"]) == (409, "AlreadyExists")
    changed = {**first, "data": {"k": "w"}}
    code, second = call(bare, "PUT", f"{MAPS}/a", changed)
    assert code == 200
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    code, refused = call(bare, "PUT", f"{MAPS}/a", changed)
    assert (code, refused["reason"], refused["kind"]) == (409, "Conflict", "Status")


def test_a_name_is_generated_and_a_missing_namespace_is_told(bare: LabCluster) -> None:
    _, made = call(bare, "POST", MAPS, {"metadata": {"generateName": "x-"}})
    assert made["metadata"]["name"].startswith("x-")
    assert len(made["metadata"]["name"]) == 7
    path = "/api/v1/namespaces/nowhere/configmaps"
    code, status = call(bare, "POST", path, config_map("a"))
    assert (code, status["message"]) == (404, 'namespaces "nowhere" not found')


def test_an_invalid_object_names_the_field_at_fault(bare: LabCluster) -> None:
    body = {
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }
    code, status = call(bare, "POST", "/apis/apps/v1/namespaces/default/deployments", body)
    assert (code, status["reason"]) == (422, "Invalid")
    assert status["details"]["causes"][0]["field"] == "spec.template.metadata.labels"


def test_a_list_comes_in_pages_of_the_asked_size(bare: LabCluster) -> None:
    for name in "abcde":
        call(bare, "POST", MAPS, config_map(name, group="g"))
    seen, token = [], ""
    while True:
        query = f"?labelSelector=group%3Dg&limit=2&continue={token}"
        _, page = call(bare, "GET", MAPS + query)
        assert len(page["items"]) <= 2
        seen += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
    assert seen == list("abcde")
    code, _ = call(bare, "GET", MAPS + "?continue=nonsense")
    assert code == 410


def test_a_watch_shows_objects_that_enter_and_leave_its_selector(bare: LabCluster) -> None:
    _, listed = call(bare, "GET", MAPS)
    version = listed["metadata"]["resourceVersion"]
    call(bare, "POST", MAPS, config_map("a", colour="red"))
    call(bare, "POST", MAPS, config_map("b", colour="blue"))
    merge = "application/merge-patch+json"
    for colour in ("blue", "red"):
        change = {"metadata": {"labels": {"colour": colour}}}
        call(bare, "PATCH", f"{MAPS}/a", change, merge)
    call(bare, "DELETE", f"{MAPS}/a")
    query = f"?watch=1&resourceVersion={version}&labelSelector=colour%3Dred&timeoutSeconds=1"
    events = lines(bare, MAPS + query)
    assert [e["type"] for e in events] == ["ADDED", "DELETED", "ADDED", "DELETED"]
    assert {e["object"]["metadata"]["name"] for e in events} == {"a"}


def test_a_watch_list_ends_its_first_part_with_the_bookmark_clients_wait_for(
    bare: LabCluster,
) -> None:
    call(bare, "POST", MAPS, config_map("a"))
    query = (
        "?watch=true&sendInitialEvents=true&allowWatchBookmarks=true"
        "&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    )
    events = lines(bare, MAPS + query)
    assert [e["type"] for e in events[:2]] == ["ADDED", "BOOKMARK"]
    annotations = events[1]["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


def test_a_watch_from_a_version_that_is_forgotten_says_gone(bare: LabCluster) -> None:
    _, listed = call(bare, "GET", MAPS)
    for number in range(30):
        call(bare, "POST", MAPS, config_map(f"m{number}"))
    version = listed["metadata"]["resourceVersion"]
    events = lines(bare, f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=5")
    assert [e["type"] for e in events] == ["ERROR"]
    assert (events[0]["object"]["code"], events[0]["object"]["reason"]) == (410, "Expired")


def test_events_are_the_same_through_both_apis(bare: LabCluster) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "hello",
        "reason": "Said",
        "type": "Normal",
    }
    call(bare, "POST", "/api/v1/namespaces/default/events", event)
    query = "?fieldSelector=regarding.name%3Dp"
    _, listed = call(bare, "GET", "/apis/events.k8s.io/v1/events" + query)
    assert [(e["note"], e["regarding"]["kind"]) for e in listed["items"]] == [("hello", "Pod")]
    assert listed["items"][0]["apiVersion"] == "events.k8s.io/v1"


def test_a_dry_run_changes_nothing(bare: LabCluster) -> None:
    code, made = call(bare, "POST", f"{MAPS}?dryRun=All", config_map("a"))
    assert (code, made["metadata"]["name"]) == (201, "a")
    assert call(bare, "GET", f"{MAPS}/a")[0] == 404


def test_null_members_are_as_if_they_were_not_there(bare: LabCluster) -> None:
    body = {"metadata": {"name": "n", "creationTimestamp": None}, "data": {"a": "b", "c": None}}
    call(bare, "POST", MAPS, body)
    _, found = call(bare, "GET", f"{MAPS}/n")
    assert found["data"] == {"a": "b"}
    assert found["metadata"]["creationTimestamp"]


def test_a_table_has_the_columns_kubectl_shows(bare: LabCluster) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    _, table = call(bare, "GET", "/api/v1/nodes", accept=accept)
    assert [c["name"] for c in table["columnDefinitions"]][:2] == ["Name", "Status"]
    assert [row["cells"][:2] for row in table["rows"]] == [["node-1", "Ready"], ["node-2", "Ready"]]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_nodes_say_where_they_are_and_which_instance_they_run_on(bare: LabCluster) -> None:
    _, node = call(bare, "GET", "/api/v1/nodes/node-1")
    labels = node["metadata"]["labels"]
    assert labels["topology.kubernetes.io/zone"] == "us-east-1a"
    assert labels["topology.kubernetes.io/region"] == "us-east-1"
    assert labels["kubernetes.io/hostname"] == "node-1"
    assert node["spec"]["providerID"] == "aws:///us-east-1a/i-01"


def test_an_unknown_patch_format_or_path_is_refused_as_a_status(bare: LabCluster) -> None:
    call(bare, "POST", MAPS, config_map("a"))
    code, status = call(bare, "PATCH", f"{MAPS}/a", {}, "text/plain")
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    code, status = call(bare, "GET", "/apis/nowhere/v1/things")
    assert (code, status["kind"]) == (404, "Status")
    code, status = call(bare, "GET", "/api/v1/pods?labelSelector=a%20b")
    assert (code, status["reason"]) == (400, "BadRequest")


def test_a_custom_resource_is_one_entry_in_the_table_of_kinds(tmp_path: Path) -> None:
    gadget = Kind(
        "example.com",
        "v1alpha1",
        "Gadget",
        "gadgets",
        short_names=("gd",),
        has_status=True,
        has_scale=True,
        strategic=False,
    )
    served = LabCluster(tmp_path, 21, extra_kinds=[gadget])
    try:
        body = {"metadata": {"name": "r"}, "spec": {"replicas": 2, "steps": [1]}}
        path = "/apis/example.com/v1alpha1/namespaces/default/gadgets"
        code, made = call(served, "POST", path, body)
        assert (code, made["metadata"]["generation"]) == (201, 1)
        strategic = "application/strategic-merge-patch+json"
        assert call(served, "PATCH", f"{path}/r", {}, strategic)[0] == 415
        merge = "application/merge-patch+json"
        _, changed = call(served, "PATCH", f"{path}/r", {"spec": {"steps": [2]}}, merge)
        assert changed["spec"] == {"replicas": 2, "steps": [2]}
        assert changed["metadata"]["generation"] == 2
        status = {"status": {"phase": "Healthy"}, "spec": {"replicas": 9}}
        _, changed = call(served, "PATCH", f"{path}/r/status", status, merge)
        assert (changed["spec"]["replicas"], changed["status"]["phase"]) == (2, "Healthy")
        _, scale = call(served, "PATCH", f"{path}/r/scale", {"spec": {"replicas": 5}}, merge)
        assert scale["spec"]["replicas"] == 5
        assert "r" in served.kubectl("get", "gd")
    finally:
        served.close()
