"""Patches give the object a real API server would give."""

from __future__ import annotations

import pytest

from harness.lab.kube import patch
from harness.lab.kube.apierror import ApiError


def pod(*containers: dict) -> dict:
    return {"spec": {"containers": list(containers)}}


def test_a_merge_patch_replaces_lists_and_removes_nulls() -> None:
    assert patch.merge(
        {"a": [1, 2], "b": 1, "c": {"d": 1}}, {"a": [3], "b": None, "c": {"e": 2}}
    ) == {
        "a": [3],
        "c": {"d": 1, "e": 2},
    }


def test_a_strategic_patch_merges_containers_by_name() -> None:
    target = pod({"name": "a", "image": "a:1", "ports": [{"containerPort": 1}]}, {"name": "b"})
    change = pod({"name": "a", "image": "a:2"}, {"name": "c", "image": "c:1"})
    assert patch.strategic(target, change) == pod(
        {"name": "a", "image": "a:2", "ports": [{"containerPort": 1}]},
        {"name": "b"},
        {"name": "c", "image": "c:1"},
    )


def test_a_strategic_patch_leaves_the_target_as_it_was() -> None:
    target = pod({"name": "a", "env": [{"name": "X", "value": "1"}]})
    patch.strategic(target, pod({"name": "a", "env": [{"name": "X", "value": "2"}]}))
    assert target == pod({"name": "a", "env": [{"name": "X", "value": "1"}]})


def test_a_strategic_patch_obeys_its_directives() -> None:
    target = {
        "metadata": {"finalizers": ["a", "b"]},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "strategy": {"x": 1, "type": "R"}},
    }
    change = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
            "containers": [{"name": "a", "$patch": "delete"}, {"name": "c"}],
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        },
    }
    assert patch.strategic(target, change) == {
        "metadata": {"finalizers": ["b", "c"]},
        "spec": {"containers": [{"name": "c"}, {"name": "b"}], "strategy": {"type": "Recreate"}},
    }


def test_service_ports_are_merged_by_port_and_container_ports_by_container_port() -> None:
    merged = patch.strategic({"ports": [{"port": 80, "name": "x"}]}, {"ports": [{"port": 81}]})
    assert [p["port"] for p in merged["ports"]] == [80, 81]
    merged = patch.strategic(
        {"ports": [{"containerPort": 80}]}, {"ports": [{"containerPort": 80, "name": "x"}]}
    )
    assert merged["ports"] == [{"containerPort": 80, "name": "x"}]


def test_a_json_patch_runs_its_operations_in_order() -> None:
    operations = [
        {"op": "test", "path": "/a/0", "value": 1},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "add", "path": "/a/0", "value": 0},
        {"op": "replace", "path": "/b~1c", "value": "y"},
        {"op": "copy", "from": "/a", "path": "/d"},
        {"op": "move", "from": "/e", "path": "/f"},
        {"op": "remove", "path": "/a/1"},
    ]
    target = {"a": [1, 2], "b/c": "x", "e": 5}
    want = {"a": [0, 2, 3], "b/c": "y", "d": [0, 1, 2, 3], "f": 5}
    assert patch.json_patch(target, operations) == want
    assert target == {"a": [1, 2], "b/c": "x", "e": 5}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/missing", "value": 1},
        {"op": "dance", "path": "/a"},
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(operation: dict) -> None:
    with pytest.raises(ApiError) as refused:
        patch.json_patch({"a": 1}, [operation])
    assert refused.value.code == 422
