"""Reading and writing target files, strictly.

A misspelt key in a target file could send faults to the wrong place, so nothing
is guessed: unknown keys, wrong types, duplicate keys and references to regions
that are not described are refused with file, line and key, before anything is
touched. Relative paths of ``kubeconfig`` and ``approvers`` count from the target file's folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import PlanInvalid, Where
from harness.secrets import learn
from harness.target.model import (
    PURPOSES,
    Access,
    AlertReceivers,
    Cluster,
    Database,
    Identity,
    Pager,
    Region,
    Target,
)
from harness.target.secrets import secrets_of
from harness.target.windows import parse_freeze, parse_hours

_EXAMPLE = "see docs/target-example.yaml"
#: Place in the document → the type whose keys it has.
_SECTIONS: dict[tuple[str, ...], Any] = {
    (): Target,
    ("regions",): Region,
    ("clusters",): Cluster,
    ("databases",): Database,
    ("alert_receivers",): AlertReceivers,
    ("pager",): Pager,
    ("access",): Access,
    **{("access", purpose): Identity for purpose in PURPOSES},
}
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{16,}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/[\w+=,.@/-]*[\w+=,.@-]")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}")
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SERVICE_ACCOUNT = re.compile(rf"{_DNS_LABEL}/{_DNS_LABEL}(\.{_DNS_LABEL})*")
_URLS = ("service_url", "edge_url", "prometheus_url", "alertmanager_url", "aws_endpoint_url")


def read_target(path: Path) -> Target:
    """The target described by the YAML file ``path``.

    Raises PlanInvalid naming the file, line and key of the first thing wrong.
    """
    document = _load(path)
    _refuse_unknown_keys(document, path)
    target = _build(document, path)
    for key, message, hint in _contradictions(target):
        raise PlanInvalid(message, hint=hint, where=_where(document, path, key))
    kubeconfig = Path(target.kubeconfig).expanduser()
    if not kubeconfig.is_absolute():
        kubeconfig = path.resolve().parent / kubeconfig
    approvers = target.approvers and str(
        path.resolve().parent / Path(target.approvers).expanduser()
    )
    target = dataclasses.replace(target, kubeconfig=str(kubeconfig), approvers=approvers)
    # Whoever knows a target may write of it: here, so that nobody forgets to.
    learn(secrets_of(target))
    return target


def write_target(target: Target, path: Path) -> None:
    """Write ``target`` as YAML that :func:`read_target` reads back equal. Mode 0600, atomic."""
    from ruamel.yaml import YAML

    path.parent.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.default_flow_style = False
    part = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as out:
        yaml.dump(json.loads(json.dumps(dataclasses.asdict(target))), out)
    os.replace(part, path)


def _load(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid(
            f"the target file cannot be read: {error}",
            hint="give a target file, or `lab` after `harness lab up`",
            where=Where(str(path)),
        ) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(str(path), mark.line + 1, mark.column + 1) if mark else Where(str(path))
        raise PlanInvalid(f"not YAML: {error.problem}", hint=_EXAMPLE, where=where) from error
    except YAMLError as error:
        raise PlanInvalid(f"not YAML: {error}", hint=_EXAMPLE, where=Where(str(path))) from error
    if not isinstance(document, dict):
        raise PlanInvalid(
            "a target file is a mapping of keys to values", hint=_EXAMPLE, where=Where(str(path), 1)
        )
    return document


def _refuse_unknown_keys(document: Any, path: Path) -> None:
    for section, kind in _SECTIONS.items():
        known = [f.name for f in dataclasses.fields(kind)]
        for loc, item in _items(document, section):
            for key in item:
                if key not in known:
                    close = get_close_matches(str(key), known, n=1)
                    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
                    place = _where(document, path, (*loc, key))
                    raise PlanInvalid(f"unknown key `{key}`", hint=hint, where=place)


def _items(
    document: Any, section: tuple[str, ...]
) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    value = document
    for key in section:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        yield section, value
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield (*section, index), item


def _build(document: Any, path: Path) -> Target:
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(document)
    except TypeError as error:
        raise PlanInvalid(
            f"a value has a type that is not allowed: {error}",
            hint="quote dates and times",
            where=Where(str(path)),
        ) from error
    try:
        # JSON mode: strict about str/int/bool, yet a list may become a tuple.
        return TypeAdapter(Target).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        more = error.error_count() - 1
        message = first["msg"].lower() + (f" (and {more} more)" if more else "")
        hint = _EXAMPLE
        if first["type"] == "string_type" and isinstance(first["input"], int | float):
            hint = f'put it in quotes: "{first["input"]}"'
        where = _where(document, path, first["loc"])
        raise PlanInvalid(message, hint=hint, where=where) from error


def _contradictions(target: Target) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    """Places (key path), messages and hints of what contradicts itself."""
    names = [region.name for region in target.regions]
    listed = f"described regions: {', '.join(names) or 'none'}"
    if target.primary == target.standby:
        yield ("standby",), "primary and standby are the same region", listed
    for key in ("primary", "standby"):
        if getattr(target, key) not in names:
            yield (key,), f"region `{getattr(target, key)}` is not described", listed
    for section, items in (("clusters", target.clusters), ("databases", target.databases)):
        for index, item in enumerate(items):
            if item.region not in names:
                yield (section, index, "region"), f"region `{item.region}` is not described", listed
    yield from _duplicates("regions", "name", names)
    yield from _duplicates("clusters", "name", [c.name for c in target.clusters])
    yield from _duplicates("databases", "instance", [d.instance for d in target.databases])
    if not target.time_scale >= 1:
        yield ("time_scale",), "time_scale must be 1 (a real cloud) or more", "write `1`"
    if not target.scrape_interval_s > 0:
        yield ("scrape_interval_s",), "must be above 0", "as in the scrape configuration"
    if target.origin_rate_max is not None and not target.origin_rate_max > 0:
        yield ("origin_rate_max",), "must be above 0", "arrivals a second, such as `500`"
    if not target.check_connect_s >= 0:
        yield ("check_connect_s",), "must not be negative", "Route 53 waits for 4 s"
    if not target.health_path.startswith("/"):
        yield ("health_path",), "a path begins with `/`", "for example `/health`"
    if target.production and not target.approvers:
        hint = "name a file of keys under `approvers`; docs/safety.md"
        yield ("production",), "a production target that nobody can approve a run on", hint
    for key, parse in (("allowed_hours", parse_hours), ("freezes", parse_freeze)):
        for index, text in enumerate(getattr(target, key)):
            try:
                parse(text)
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                yield (key, index), message, hint
    if target.alert_receivers is not None:
        yield from _wrong_receivers(target.alert_receivers)
    if target.access is not None:
        yield from _wrong_access(target, target.access)
    if target.undo_copy is not None and not re.fullmatch(r"s3://[\w.-]+(/.*)?", target.undo_copy):
        hint = "for example `s3://bucket/harness`"
        yield ("undo_copy",), f"`{target.undo_copy}` is not a place in S3", hint
    urls: list[tuple[tuple[str, ...], str | None]] = [
        ((key,), getattr(target, key)) for key in _URLS
    ]
    if target.pager is not None:
        urls.append((("pager", "url"), target.pager.url))
    for key, url in urls:
        if url is not None and not _is_url(url):
            yield key, f"`{url}` is not a URL", "for example `https://host:port`"
        elif url is not None and _is_link_local(url):
            hint = "cloud metadata services have such addresses; name a host"
            yield key, f"`{url}` is a link-local address", hint


def _wrong_receivers(
    described: AlertReceivers,
) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    section = "alert_receivers"
    if not _TOKEN.fullmatch(described.token):
        hint = "16 letters and digits or more, such as `openssl rand -hex 16` prints"
        yield (section, "token"), "the token is too short, or does not fit in an address", hint
    for name, kind in described.receivers.items():
        key = "smtp" if kind == "email" else "http"
        if not re.fullmatch(r"[\w-]+", name):
            yield (section, "receivers", name), f"`{name}` is not a name", "letters, digits, dashes"
        if getattr(described, key) is None:
            message = f"there is no `{key}` for `{name}` to listen on"
            yield (section,), message, f"for example `{key}: 127.0.0.1:9095`"
    if not described.receivers:
        yield (section, "receivers"), "no receiver is named", "for example `{oncall: webhook}`"
    for key in ("http", "smtp"):
        address = getattr(described, key)
        if address is not None and not _is_loopback(address):
            hint = "only this machine may deliver; docs/alerts.md says how a cluster reaches it"
            yield (section, key), f"`{address}` is not an address of loopback and a port", hint


def _wrong_access(target: Target, access: Access) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    for purpose in PURPOSES:
        identity: Identity = getattr(access, purpose)
        at = ("access", purpose)
        role = identity.role_arn and _ROLE.fullmatch(identity.role_arn)
        if identity.role_arn is not None and not role:
            hint = f"for example `arn:aws:iam::{target.account}:role/harness-{purpose}`"
            yield (*at, "role_arn"), f"`{identity.role_arn}` is not the ARN of a role", hint
        elif role and role["account"] != target.account:
            message = f"the role is of account {role['account']}, the target is in {target.account}"
            yield (*at, "role_arn"), message, "name a role of the target's account"
        if identity.external_id is not None:
            if identity.role_arn is None:
                message = "an external id without a role to assume with it"
                yield (*at, "external_id"), message, "add `role_arn`"
            if not _EXTERNAL_ID.fullmatch(identity.external_id):
                hint = "2 letters, digits or more, such as `uuidgen` prints"
                yield (*at, "external_id"), "this is not an external id", hint
        account = identity.service_account
        if account is not None and not _SERVICE_ACCOUNT.fullmatch(account):
            hint = f"namespace and name, for example `harness/harness-{purpose}`"
            yield (*at, "service_account"), f"`{account}` is not a service account", hint
    # Who may look with a role but not undo with one finds out when a fault is in place.
    for key in ("role_arn", "service_account"):
        without = [p for p in PURPOSES if getattr(getattr(access, p), key) is None]
        if 0 < len(without) < len(PURPOSES):
            message = f"`{key}` is given, but not for {' and '.join(without)}"
            yield ("access", without[0]), message, "give it for every purpose, or for none"


def _is_loopback(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        return ipaddress.ip_address(host).is_loopback and 0 < int(port) < 65536
    except ValueError:
        return False


def _is_link_local(url: str) -> bool:
    """Whether its host is such an address, in any form that resolvers take for one."""
    host = (urlsplit(url).hostname or "").partition("%")[0]
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_link_local


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _duplicates(
    section: str, key: str, names: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (section, index, key), f"`{name}` is described twice", "names must differ"


def _where(document: Any, path: Path, loc: Sequence[Any]) -> Where:
    """Line and column of the deepest part of ``loc`` that exists in the document."""
    line = column = None
    node = document
    for step in loc:
        try:
            if isinstance(node, dict):
                line, column = node.lc.key(step)
            else:
                line, column = node.lc.item(step)
            node = node[step]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    key = ".".join(str(step) for step in loc)
    if line is None:
        return Where(str(path), 1, 1, key or None)
    return Where(str(path), line + 1, column + 1, key or None)
