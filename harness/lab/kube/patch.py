"""The four ways to patch an object: JSON patch, merge, strategic merge and apply.

Strategic merge follows the merge keys of the built-in types: a list such as
``containers`` is merged element by element, by name. Apply (server-side) is a
strategic merge that does not track which manager owns a field.
"""

from __future__ import annotations

from typing import Any

from harness.lab.kube.apierror import ApiError, bad_request
from harness.lab.kube.objects import clone

#: Lists merged by element, and the key that identifies an element.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "conditions": "type",
    "ownerReferences": "uid",
    "secrets": "name",
    "taints": "key",
    "topologySpreadConstraints": "topologyKey",
    "images": "names",
}
#: Lists of plain values that are merged as sets.
MERGED_SETS = frozenset({"finalizers"})


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396 merge patch; returns a new value."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """Strategic merge patch with ``$patch``, ``$retainKeys`` and primitive deletions."""
    if not isinstance(patch, dict):
        return clone(patch)
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: clone(v) for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {k: v for k, v in result.items() if k in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [v for v in result.get(field) or () if v not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key), value)
        else:
            result[key] = strategic(result.get(key), value)
    _reorder(result, patch)
    return result


def _merge_key(field: str, items: list[Any]) -> str | None:
    if field == "ports":
        named = {k for item in items if isinstance(item, dict) for k in item}
        return "containerPort" if "containerPort" in named else "port"
    return MERGE_KEYS.get(field)


def _merge_list(field: str, current: Any, patch: list[Any]) -> list[Any]:
    current = list(current) if isinstance(current, list) else []
    if field in MERGED_SETS:
        return current + [v for v in patch if v not in current]
    objects = [item for item in patch if isinstance(item, dict)]
    key = _merge_key(field, objects + current)
    if key is None or len(objects) != len(patch):
        return clone(patch)
    if any(item == {"$patch": "replace"} for item in objects):
        return [clone(item) for item in objects if item != {"$patch": "replace"}]
    result = current
    for item in objects:
        place = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(key) != item.get(key)]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def _reorder(result: dict[str, Any], patch: dict[str, Any]) -> None:
    """Honour ``$setElementOrder/<field>``: listed elements first, in that order."""
    for directive, order in patch.items():
        if not directive.startswith("$setElementOrder/"):
            continue
        field = directive.partition("/")[2]
        items = result.get(field)
        if not isinstance(items, list):
            continue
        key = _merge_key(field, items) if items and isinstance(items[0], dict) else None
        ranks = [o.get(key) if key and isinstance(o, dict) else o for o in order]

        def rank(item: Any, key: str | None = key, ranks: list[Any] = ranks) -> int:
            identity = item.get(key) if key else item
            return ranks.index(identity) if identity in ranks else len(ranks)

        result[field] = sorted(items, key=rank)


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902; returns a new value. Raises ApiError 400 or 422 with the operation at fault."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch must be a list of operations")
    document = clone(target)
    for operation in operations:
        try:
            document = _apply_operation(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            text = f"the server rejected our request due to an error in our request: {operation}"
            raise ApiError(422, "Invalid", f"{text}: {error!r}") from error
    return document


def _pointer(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise ValueError(f"path {path!r} does not start with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _resolve(document: Any, parts: list[str]) -> Any:
    for part in parts:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _apply_operation(document: Any, operation: dict[str, Any]) -> Any:
    kind, parts = operation["op"], _pointer(operation["path"])
    if kind == "test":
        if _resolve(document, parts) != operation["value"]:
            raise ValueError("test failed")
        return document
    if kind in ("move", "copy"):
        source = _pointer(operation["from"])
        value = clone(_resolve(document, source))
        if kind == "move":
            _remove(document, source)
    elif kind in ("add", "replace"):
        value = clone(operation["value"])
    elif kind == "remove":
        _remove(document, parts)
        return document
    else:
        raise ValueError(f"unknown operation {kind!r}")
    if not parts:
        return value
    if kind == "replace":
        _resolve(document, parts)
    _add(document, parts, value, replace=kind == "replace")
    return document


def _add(document: Any, parts: list[str], value: Any, *, replace: bool) -> None:
    parent, last = _resolve(document, parts[:-1]), parts[-1]
    if not isinstance(parent, list):
        parent[last] = value
    elif last == "-":
        parent.append(value)
    elif replace:
        parent[int(last)] = value
    elif 0 <= int(last) <= len(parent):
        parent.insert(int(last), value)
    else:
        raise IndexError(last)


def _remove(document: Any, parts: list[str]) -> None:
    parent, last = _resolve(document, parts[:-1]), parts[-1]
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
