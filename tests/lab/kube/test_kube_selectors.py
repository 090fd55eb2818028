"""Selectors mean what they mean to a real API server."""

from __future__ import annotations

import pytest

from harness.lab.kube.apierror import ApiError
from harness.lab.kube.selectors import (
    field_selector,
    label_selector,
    selector_object,
    selector_text,
)

LABELS = {"app": "web", "tier": "front", "weight": "7"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=web,tier=back", False),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (web, api)", True),
        ("app in (api),tier=front", False),
        ("app notin (api,db)", True),
        ("missing notin (a)", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("weight>5", True),
        ("weight<5", False),
        ("app>5", False),
    ],
)
def test_a_label_selector_matches_as_documented(text: str, matches: bool) -> None:
    assert label_selector(text)(LABELS) is matches


@pytest.mark.parametrize("text", ["app in web", "=x", "a=b c", "app in (a"])
def test_a_label_selector_that_cannot_be_parsed_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        label_selector(text)
    assert refused.value.code == 400


def test_a_selector_object_combines_labels_and_expressions() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    }
    matches = selector_object(selector)
    assert matches(LABELS)
    assert not matches({**LABELS, "canary": "yes"})
    assert label_selector(selector_text(selector))(LABELS)


def test_no_selector_object_matches_nothing_and_an_empty_one_everything() -> None:
    assert not selector_object(None)(LABELS)
    assert selector_object({})(LABELS)


def test_a_field_selector_compares_by_path_and_refuses_unknown_paths() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"unschedulable": True}, "status": {}}
    known = frozenset({"metadata.name", "spec.unschedulable", "status.phase"})
    assert field_selector("metadata.name=p,status.phase!=Running", known)(pod)
    assert field_selector("spec.unschedulable=true", known)(pod)
    assert not field_selector("metadata.name!=p", known)(pod)
    with pytest.raises(ApiError, match="field label not supported"):
        field_selector("spec.colour=red", known)
