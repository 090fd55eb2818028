"""Small helpers on Kubernetes objects, which are plain JSON dictionaries here.

Objects that came out of the store are shared and never changed in place: change
a :func:`clone` and put that back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Obj = dict[str, Any]


def clone(value: Any) -> Any:
    """Deep copy of JSON data (several times faster than ``copy.deepcopy``)."""
    if isinstance(value, dict):
        return {k: clone(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clone(v) for v in value]
    return value


def without_nulls(value: Any) -> Any:
    """Deep copy without the members that are null, which mean "not there"."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def timestamp(wall_s: float) -> str:
    """RFC 3339 with whole seconds, as in ``metadata.creationTimestamp``."""
    return datetime.fromtimestamp(int(wall_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(wall_s: float) -> str:
    """RFC 3339 with microseconds, as in ``eventTime``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text ending in ``Z``."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def meta(obj: Obj) -> Obj:
    return obj.get("metadata") or {}


def name_of(obj: Obj) -> str:
    return meta(obj).get("name", "")


def namespace_of(obj: Obj) -> str:
    return meta(obj).get("namespace", "")


def uid_of(obj: Obj) -> str:
    return meta(obj).get("uid", "")


def labels_of(obj: Obj) -> dict[str, str]:
    return meta(obj).get("labels") or {}


def annotations_of(obj: Obj) -> dict[str, str]:
    return meta(obj).get("annotations") or {}


def is_terminating(obj: Obj) -> bool:
    return bool(meta(obj).get("deletionTimestamp"))


def at(obj: Any, path: str, default: Any = None) -> Any:
    """Value at a dotted path (``spec.nodeName``), or ``default``."""
    for part in path.split("."):
        if not isinstance(obj, dict):
            return default
        obj = obj.get(part)
    return default if obj is None else obj


def owner_reference(owner: Obj) -> Obj:
    """A controlling owner reference to ``owner``."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference of the controlling owner, if there is one."""
    refs: Iterable[Obj] = meta(obj).get("ownerReferences") or ()
    return next((r for r in refs if r.get("controller")), None)


def condition(obj: Obj, type_: str) -> Obj | None:
    conditions: Iterable[Obj] = at(obj, "status.conditions", ())
    return next((c for c in conditions if c.get("type") == type_), None)


def is_condition_true(obj: Obj, type_: str) -> bool:
    found = condition(obj, type_)
    return bool(found) and found.get("status") == "True"


def set_condition(
    obj: Obj, type_: str, status: str, now: str, *, reason: str = "", message: str = ""
) -> None:
    """Set one condition in place; the transition time moves only when the status does."""
    conditions: list[Obj] = obj.setdefault("status", {}).setdefault("conditions", [])
    found = next((c for c in conditions if c.get("type") == type_), None)
    if found is None:
        found = {"type": type_}
        conditions.append(found)
    if found.get("status") != status:
        found["status"] = status
        found["lastTransitionTime"] = now
    for key, text in (("reason", reason), ("message", message)):
        if text:
            found[key] = text
        else:
            found.pop(key, None)


def int_or_percent(value: Any, total: int, *, round_up: bool) -> int:
    """Resolve ``2`` or ``"25%"`` against ``total``."""
    text = str(value)
    if not text.endswith("%"):
        return int(text)
    share = int(text[:-1]) * total
    return -(-share // 100) if round_up else share // 100


_QUANTITY = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20}


def quantity(text: object) -> float:
    """A quantity (``500m``, ``2``, ``1Ki``) as a number. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|Ki|Mi)?", str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _QUANTITY[found[2] or ""]


def quantity_text(value: float) -> str:
    """``value`` as a quantity, in thousandths where it is no whole number."""
    thousandths = round(value * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def image_tag(image: str) -> str:
    """``v2`` of ``registry:5000/files/gateway:v2``; ``latest`` where there is none."""
    last = image.split("@", 1)[0].rsplit("/", 1)[-1]
    return last.partition(":")[2] or "latest"


def is_true(text: str | None) -> bool:
    """A boolean query parameter as the API server reads it (clients send ``true``, ``True``, 1)."""
    return text in ("1", "t", "T", "true", "TRUE", "True")
