"""Lines of access logs, each read to the one request it records; pure, and for bytes.

Formats: Common and Combined Log Format (what follows the size is not looked at), the access log
of an Application Load Balancer, the standard log of CloudFront. (HAR is no log of lines; see
:mod:`harness.plan.logfile`.)
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple


class Record(NamedTuple):
    """One recorded request.

    ``t``: wall seconds, whole ones where ``exact`` is not set. ``target``: path and query as they
    go into a request line. ``status`` 0: nothing was answered. ``size_bytes``: of the request
    where the format says it, with its head (0: not known).
    """

    t: float
    exact: bool
    method: bytes
    target: bytes
    status: int
    size_bytes: int


class NoRequest(ValueError):
    """The line is of the format, but no request was made (a port scan, a client that left)."""


#: Reads one line. Raises NoRequest, or ValueError for a line that is not of the format.
Parser = Callable[[bytes], Record]

_QUOTED = rb'"((?:[^"\\]|\\.)*)"'
_COMMON = re.compile(rb"\S+ \S+ .*?\[([^\]]+)\] " + _QUOTED + rb" (\d{3}|-) (?:\d+|-)(?: |$)")
_COMMON_TIME = re.compile(
    rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(\.\d+)? ([+-])(\d\d)(\d\d)"
)
_MONTHS = {name.encode(): n for n, name in enumerate(calendar.month_abbr) if name}
_ALB = re.compile(
    rb"(?:https?|h2|wss?|grpcs?) (\S+) \S+ \S+ \S+ (\S+) (\S+) (\S+) (\d{3}|-) \S+ (\d+) \d+ "
    + _QUOTED
)
#: Follows the priority of the rule that matched: when the load balancer received the request.
_ALB_CREATED = re.compile(rb'" (?:-?\d+|-) (\d{4}-\d\d-\d\dT[\d:.]+Z) "')
_REQUEST = re.compile(rb"([A-Z]{3,16}) (\S+)(?: HTTP/\d(?:\.\d)?)?")
_ABSOLUTE = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#\s]*")
#: How servers write what would break a line: ``\x22``, ``\"``, ``\\``.
_ESCAPED = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|(["\\]))')
#: What may not stand in a request line as it is.
_UNSAFE = re.compile(rb"[^!#-;=?-\[\]_a-z~|^`{}]")


def common(line: bytes) -> Record:
    """Common or Combined Log Format."""
    found = _COMMON.match(line)
    if found is None:
        raise ValueError("not of the Common Log Format")
    t, exact = _common_time(found[1])
    method, target = _request(found[2])
    return Record(t, exact, method, target, _number(found[3]), 0)


def load_balancer(line: bytes) -> Record:
    """Access log of an Application Load Balancer."""
    found = _ALB.match(line)
    if found is None:
        raise ValueError("not of the format of a load balancer")
    method, target = _request(found[7])
    created = _ALB_CREATED.search(line, found.end())
    if created is not None:
        t = iso_time(created[1])
    else:
        # The line is stamped when the answer was sent, and says how long each part took.
        t = iso_time(found[1]) - sum(map(_took_s, found.group(2, 3, 4)))
    return Record(t, True, method, target, _number(found[5]), _number(found[6]))


def cloudfront(fields: list[bytes]) -> Parser:
    """Standard log of CloudFront with these columns. Raises ValueError when one is missing."""
    day, clock, method, stem, query, status = (
        fields.index(name)
        for name in (b"date", b"time", b"cs-method", b"cs-uri-stem", b"cs-uri-query", b"sc-status")
    )
    size = fields.index(b"cs-bytes") if b"cs-bytes" in fields else None

    def parse(line: bytes) -> Record:
        cells = line.split(b"\t")
        if len(cells) < len(fields):
            raise ValueError(f"{len(cells)} of {len(fields)} columns")
        t = iso_time(cells[day] + b"T" + cells[clock] + b"Z")
        target = cells[stem] if cells[query] == b"-" else cells[stem] + b"?" + cells[query]
        size_bytes = 0 if size is None else _number(cells[size])
        answered = _number(cells[status])
        return Record(t, False, cells[method], origin_form(target), answered, size_bytes)

    return parse


def origin_form(target: bytes) -> bytes:
    """Path and query of what stands in a request line, without scheme, host and fragment.

    Raises NoRequest for what has none (``*``, ``host:443``).
    """
    target = _ESCAPED.sub(lambda found: b"%" + (found[1] or found[2].hex().encode()), target)
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise NoRequest("no path")
        target = target[absolute.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    target = target.partition(b"#")[0]
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], target)


def _request(line: bytes) -> tuple[bytes, bytes]:
    found = _REQUEST.fullmatch(line)
    if found is None:
        raise NoRequest("no request")
    return found[1], origin_form(found[2])


def _took_s(text: bytes) -> float:
    """Seconds; -1 stands for none."""
    took_s = max(0.0, float(text))
    if not took_s < 1e6:
        raise ValueError(f"{took_s} s is no time a request takes")
    return took_s


def _number(text: bytes) -> int:
    """A size or status; 0 for ``-`` and for what no server would write."""
    return int(text) if text.isdigit() and len(text) <= 12 else 0


@lru_cache(maxsize=1024)
def _common_time(text: bytes) -> tuple[float, bool]:
    found = _COMMON_TIME.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        raise ValueError("no time as in 10/Oct/2000:13:55:36 -0700")
    day, hour, minute, second = (int(found[n]) for n in (1, 4, 5, 6))
    t = calendar.timegm((int(found[3]), _MONTHS[found[2]], day, hour, minute, second))
    east_s = int(found[9]) * 3600 + int(found[10]) * 60
    fraction = float(found[7]) if found[7] else 0.0
    return t + fraction + (east_s if found[8] == b"-" else -east_s), found[7] is not None


def iso_time(text: bytes) -> float:
    """Wall seconds of ``2026-03-01T10:00:00.25Z`` (UTC without a zone). Raises ValueError."""
    t = datetime.fromisoformat(text.decode("ascii"))
    return (t if t.tzinfo else t.replace(tzinfo=UTC)).timestamp()
