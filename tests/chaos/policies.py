"""What IAM and RBAC would say to a request: as much of both as the documents in ``ci/`` use.

What is not understood raises: a document that is read wrongly must not look right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# ── IAM ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Asked:
    """One permission that a call needs: IAM checks each resource of a call by itself.

    ``resource`` is ``*`` for an action that AWS knows no resources of. ``context`` are condition
    keys and their values, as far as documents here use them.
    """

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def without(self, key: str) -> Asked:
        return replace(self, context={k: v for k, v in self.context.items() if k != key})

    def having(self, **changes: str) -> Asked:
        return replace(self, context={**self.context, **changes})


#: A way to give something, and whether it is what allows a request.
Grant = tuple[Any, ...]


def allowed(document: Mapping[str, Any], asked: Asked) -> bool:
    """Whether an IAM policy document allows it."""
    return any(_statement_allows(s, asked) for s in _statements(document))


def grants(document: Mapping[str, Any]) -> Iterator[tuple[Grant, Mapping[str, Any]]]:
    """Each single thing a document gives, and the document of one statement that gives only it.

    An action on a resource; and each of several values a condition lets pass.
    """
    for number, statement in enumerate(_statements(document)):
        for action in _listed(statement["Action"]):
            for resource in _listed(statement.get("Resource", "*")):
                yield (number, action, resource), _only(statement, Action=action, Resource=resource)
        for operator, keys in statement.get("Condition", {}).items():
            for key, values in keys.items():
                for value in _listed(values):
                    narrowed = {**statement["Condition"], operator: {**keys, key: value}}
                    yield (number, operator, key, value), _only(statement, Condition=narrowed)


def unused(document: Mapping[str, Any], used: Iterable[Asked]) -> list[Grant]:
    """What a document gives that no request needed."""
    used = list(used)
    return [g for g, only in grants(document) if not any(allowed(only, asked) for asked in used)]


def _only(statement: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{**statement, **changes}]}


def _statements(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    assert document["Version"] == "2012-10-17" and set(document) == {"Version", "Statement"}
    for statement in document["Statement"]:
        known = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
        assert set(statement) <= known and statement["Effect"] == "Allow", statement
    return list(document["Statement"])


def _statement_allows(statement: Mapping[str, Any], asked: Asked) -> bool:
    return (
        any(_matches(a.lower(), asked.action.lower()) for a in _listed(statement["Action"]))
        and any(_matches(r, asked.resource) for r in _listed(statement.get("Resource", "*")))
        and all(
            _holds(operator, asked.context.get(key), _listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, value: str | None, wanted: list[str]) -> bool:
    match operator:
        case "StringEquals":
            return value in wanted
        case "ArnEquals":
            return value is not None and any(_matches(w, value) for w in wanted)
        case "Null":
            return wanted == [str(value is None).lower()]
    raise NotImplementedError(operator)


def _matches(pattern: str, text: str) -> bool:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# ── RBAC ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Request:
    """One request to a Kubernetes API, as its authorizer sees it.

    ``user``: ``namespace/name`` of a service account, or the name of a group; ``resource`` with
    its subresource, as ``rollouts/status``.
    """

    user: str
    verb: str
    group: str
    resource: str
    namespace: str | None
    name: str | None = None


@dataclass(frozen=True)
class Right:
    """One thing that a binding gives to one subject."""

    user: str
    verb: str
    group: str
    resource: str
    #: None: everywhere
    namespace: str | None
    #: None: whatever its name
    name: str | None

    def allows(self, request: Request) -> bool:
        return all(
            mine in ("*", theirs)
            for mine, theirs in (
                (self.user, request.user),
                (self.verb, request.verb),
                (self.group, request.group),
                (self.resource, request.resource),
                (self.namespace or "*", request.namespace),
                (self.name or "*", request.name),
            )
        )


def rights(objects: Iterable[Mapping[str, Any]]) -> set[Right]:
    """All that the bindings among ``objects`` give, one by one."""
    objects = list(objects)
    roles = {
        (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]): o["rules"]
        for o in objects
        if o["kind"] in ("Role", "ClusterRole")
    }
    accounts = {
        f"{o['metadata']['namespace']}/{o['metadata']['name']}"
        for o in objects
        if o["kind"] == "ServiceAccount"
    }
    found = set()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        namespace = binding["metadata"].get("namespace")
        ref = binding["roleRef"]
        rules = roles[ref["kind"], namespace if ref["kind"] == "Role" else None, ref["name"]]
        for subject in binding["subjects"]:
            user = _user(subject)
            assert subject["kind"] == "Group" or user in accounts, f"nobody makes {user}"
            for rule in rules:
                found |= set(_rights(user, rule, namespace))
    return found


def _rights(user: str, rule: Mapping[str, Any], namespace: str | None) -> Iterator[Right]:
    assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}, rule
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or [None]:
                    yield Right(user, verb, group, resource, namespace, name)


def _user(subject: Mapping[str, Any]) -> str:
    if subject["kind"] == "ServiceAccount":
        return f"{subject['namespace']}/{subject['name']}"
    assert subject["kind"] == "Group", subject
    return str(subject["name"])
