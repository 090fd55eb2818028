"""Alerts as they arrived at a receiver: what a delivery is, and how one is told from another.

Alertmanager and Prometheus know an alert by its *fingerprint*: the 64-bit FNV-1a hash of its
sorted label names and values, each followed by the byte 255 (``model.LabelSet.Fingerprint`` of
prometheus/common). It is computed here from the labels, so what arrived can be held against
what was seen in either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.evidence.model import Event

#: Kinds of ``history.jsonl`` that receivers write.
STARTED = "receiver.start"
DELIVERY = "alert.delivery"
UNREADABLE = "alert.unreadable"
REFUSED = "alert.refused"
#: Source of the lines of one receiver.
SOURCE = "receiver/"

_FNV_OFFSET, _FNV_PRIME, _MASK = 14695981039346656037, 1099511628211, (1 << 64) - 1
_SEPARATOR = b"\xff"


def fingerprint(labels: Mapping[str, str]) -> str:
    """The fingerprint of an alert with ``labels`` (``alertname`` among them), as 16 hex digits."""
    value = _FNV_OFFSET
    for name in sorted(labels):
        for byte in (*name.encode(), *_SEPARATOR, *labels[name].encode(), *_SEPARATOR):
            value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return f"{value:016x}"


@dataclass(frozen=True)
class Delivery:
    """One alert in one notification that arrived at ``receiver`` at ``t``.

    ``status``: firing or resolved. ``known_by`` says how sure it is which alert that was:
    ``fingerprint`` (the notification gives it), ``labels`` (it lists them all, the fingerprint is
    computed), ``title`` (only its name and the values in the title are known; ``fingerprint`` is
    empty, ``words`` are those values). ``group`` is the group's key where there is one.
    """

    receiver: str
    status: str
    t: float
    labels: Mapping[str, str]
    fingerprint: str
    known_by: str
    words: tuple[str, ...] = ()
    group: str = ""

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels.get("alertname", "")

    @property
    def key(self) -> str:
        """What tells this alert from others at the same receiver."""
        return self.fingerprint or " ".join((self.name, *self.words, self.group))


def deliveries(events: Iterable[Event]) -> tuple[Delivery, ...]:
    """The deliveries among ``events``, in order."""
    return tuple(_delivery(event) for event in events if event.kind == DELIVERY)


def _delivery(event: Event) -> Delivery:
    labels, words = event.data.get("labels"), event.data.get("words")
    return Delivery(
        receiver=event.text("receiver"),
        status=event.text("status"),
        t=event.t,
        labels={str(k): str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else {},
        fingerprint=event.text("fingerprint"),
        known_by=event.text("known_by"),
        words=tuple(str(word) for word in words) if isinstance(words, list) else (),
        group=event.text("group"),
    )


def labels_of(subject: str) -> dict[str, str]:
    """The labels in ``alert:<name>/<label=value,…>`` (or ``alertmanager:…``).

    A value that itself holds ``,name=`` is read as two labels.
    """
    name, _, rest = subject.partition(":")[2].partition("/")
    pairs = re.findall(r"([a-zA-Z_]\w*)=(.*?)(?=,[a-zA-Z_]\w*=|$)", rest, re.DOTALL)
    return {"alertname": name, **dict(pairs)}
