"""What a notification says of which alerts: pure readers of what Alertmanager sends.

===========  ==================================================================================
webhook      JSON version 4: labels, status and fingerprint of every alert
pagerduty    Events API v2: the default ``custom_details`` list the labels of every alert
slack        incoming webhook: by default only a title; a *trace line* per alert says all
email        text or HTML: trace lines, else the lists of labels of the default template
===========  ==================================================================================

A trace line, which the receiver's template writes (docs/alerts.md), is the status, the
fingerprint and the labels, quoted: ``firing 0123456789abcdef alertname="ServiceDown" …``.
"""

from __future__ import annotations

import email
import email.policy
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.evidence.deliveries import fingerprint

KINDS = ("webhook", "slack", "pagerduty", "email")

_TRACE = re.compile(
    r'^\W*(firing|resolved) ([0-9a-f]{16})((?: [a-zA-Z_]\w*="(?:[^"\\]|\\.)*")+)\s*$', re.MULTILINE
)
_PAIR = re.compile(r'([a-zA-Z_]\w*)=("(?:[^"\\]|\\.)*")')
#: ``[FIRING:2] ServiceDown us-east-1 (critical)``, the default title and subject.
_TITLE = re.compile(r"\[(FIRING|RESOLVED)(?::\d+)?\]\s+(.+)")


@dataclass(frozen=True)
class Told:
    """One alert that a notification tells of; fields as in
    :class:`~harness.evidence.deliveries.Delivery`."""

    status: str
    labels: Mapping[str, str]
    fingerprint: str
    known_by: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notification:
    """All that one message says. ``cut_off``: why not all of its alerts are here, if so."""

    told: tuple[Told, ...]
    group: str = ""
    cut_off: str = ""


def read(kind: str, body: bytes) -> Notification:
    """What a message to a receiver of this kind says.

    Raises ValueError when it is no notification of an alert.
    """
    found = _READERS[kind](body)
    if not found.told and not found.cut_off:
        raise ValueError("it tells of no alert")
    return found


def _webhook(body: bytes) -> Notification:
    document = _object(json.loads(body))
    alerts = document.get("alerts")
    if document.get("version") != "4" or not isinstance(alerts, list):
        raise ValueError('it is no Alertmanager webhook of version "4"')
    told = []
    for alert in map(_object, alerts):
        labels, given = _labels(alert.get("labels")), str(alert.get("fingerprint") or "")
        by = "fingerprint" if given else "labels"
        told.append(Told(_status(alert["status"]), labels, given or fingerprint(labels), by))
    cut = document.get("truncatedAlerts") or 0
    return Notification(
        tuple(told),
        str(document.get("groupKey") or ""),
        f"{cut} alerts were cut off (max_alerts)" if cut else "",
    )


def _pagerduty(body: bytes) -> Notification:
    document = _object(json.loads(body))
    action = {"trigger": "firing", "resolve": "resolved"}.get(str(document.get("event_action")))
    if action is None or not document.get("routing_key"):
        raise ValueError("it is no event of the PagerDuty Events API v2")
    payload = document.get("payload")
    summary, details = "", {}
    if isinstance(payload, Mapping):
        summary, details = str(payload.get("summary") or ""), payload.get("custom_details") or {}
    text = "" if isinstance(details, Mapping) else str(details)
    told = list(_traced(text))
    if isinstance(details, Mapping):
        told += _traced("\n".join(str(value) for value in details.values()))
        if not told:
            for status in ("firing", "resolved"):
                told += _listed(str(details.get(status) or ""), status)
    return Notification(
        tuple(told or _titled(summary, action)), str(document.get("dedup_key") or "")
    )


def _slack(body: bytes) -> Notification:
    document = _object(json.loads(body))
    texts = list(_texts(document))
    return Notification(_from_text("\n".join(texts), texts))


def _email(body: bytes) -> Notification:
    message = email.message_from_bytes(body, policy=email.policy.default)
    texts = []
    for part in message.walk():
        if part.get_content_type() == "text/plain":
            texts.insert(0, part.get_content())
        elif part.get_content_type() == "text/html":
            texts.append(_plain(part.get_content()))
    subject = str(message.get("Subject", ""))
    told: tuple[Told, ...] = ()
    for text in texts:
        told = told or _from_text(text, [])
    return Notification(told or _from_text("", [subject]))


def _from_text(text: str, titles: list[str]) -> tuple[Told, ...]:
    """Trace lines, else lists of labels, else the first title that is one."""
    told = tuple(_traced(text)) or tuple(_listed(text, ""))
    return told or next((found for title in titles if (found := tuple(_titled(title)))), ())


def _traced(text: str) -> Iterator[Told]:
    for status, given, pairs in _TRACE.findall(text):
        labels = {name: _unquoted(value) for name, value in _PAIR.findall(pairs)}
        # Labels that do not give the fingerprint have been changed on their way.
        by = "fingerprint" if fingerprint(labels) == given else "labels"
        yield Told(status, labels, given, by)


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _listed(text: str, status: str) -> Iterator[Told]:
    """Alerts as the default templates list them, ``name = value`` below ``Labels``.

    ``status``: what they are where no heading says so; empty: only headings count.
    """
    found: list[tuple[str, dict[str, str]]] = []
    reading = False
    for line in map(str.strip, text.splitlines()):
        heading = re.fullmatch(r"\[\d+\] (Firing|Resolved)", line)
        pair = re.fullmatch(r"(?:- )?([a-zA-Z_]\w*) = (.*)", line)
        if heading:
            status = heading[1].lower()
        elif line.rstrip(":") == "Labels":
            found.append((status, {}))
            reading = True
        elif pair and reading:
            found[-1][1][pair[1]] = pair[2]
        elif line:
            reading = False
    for said, labels in found:
        if said and labels.get("alertname"):
            yield Told(said, labels, fingerprint(labels), "labels")


def _titled(title: str, status: str = "") -> Iterator[Told]:
    match = _TITLE.search(title)
    if match:
        name, *words = re.sub(r"[()]", " ", match[2].partition("|")[0]).split()
        yield Told(status or match[1].lower(), {"alertname": name}, "", "title", tuple(words))


def _texts(value: Any) -> Iterator[str]:
    """Every text within a JSON value, in order; of Slack's marks only the escapes are undone."""
    if isinstance(value, str):
        yield html.unescape(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _plain(text: str) -> str:
    """HTML as lines of text, good enough to find lists of labels in."""
    text = re.sub(r"<(?:style|head)\b.*?</(?:style|head)>", "", text, flags=re.DOTALL | re.I)
    text = re.sub(r"<(?:br|/a|/td|/tr|/p|/div|/strong)\b[^>]*>", "\n", text, flags=re.I)
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("it is no JSON object")
    return value


def _labels(value: Any) -> dict[str, str]:
    labels = {str(k): str(v) for k, v in _object(value).items()}
    if not labels.get("alertname"):
        raise ValueError("an alert in it has no name")
    return labels


def _status(value: Any) -> str:
    if value not in ("firing", "resolved"):
        raise ValueError(f"{value!r} is not the status of an alert")
    return str(value)


_READERS: dict[str, Callable[[bytes], Notification]] = {
    "webhook": _webhook,
    "slack": _slack,
    "pagerduty": _pagerduty,
    "email": _email,
}
