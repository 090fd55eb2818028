"""What the edge keeps and whom it gives it to. Pure: instants are passed in.

Objects live as long as the origin says (``Cache-Control``), else a default; the least
recently used go first when the room is full. A token is *known* once the origin has accepted
a request that carried it; only a known token is ever answered from the cache.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

#: How long an object of which the origin says nothing is fresh. CloudFront: a day.
DEFAULT_TTL_S = 60.0
#: How long beyond that it may still be given away when the origin does not answer.
STALE_S = 600.0
#: A token is shown to the origin again after this long …
TOKEN_FRESH_S = 30.0
#: … and is not known any more after this long without the origin's word.
TOKEN_KNOWN_S = 300.0
MAX_TOKENS = 10_000
CAPACITY_BYTES = 64 * 1024 * 1024
OBJECT_MAX_BYTES = 1024 * 1024
#: Per object, beside its body: head, key, bookkeeping.
OVERHEAD_BYTES = 1024

CACHED_PREFIXES = (b"/v1/files/", b"/v1/images/")
#: Headers of the origin that every answer made from its object carries.
_KEPT = (b"content-type", b"etag", b"x-checksum-sha256", b"cache-control", b"last-modified")
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
_DIRECTIVE = re.compile(rb"\s*([a-zA-Z-]+)\s*(?:=\s*\"?(\d{1,9})\"?)?")

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
HIT, REFRESHED, MISS, ERROR = b"Hit", b"RefreshHit", b"Miss", b"Error"
#: Who is said to have served what no region served.
NAME = b"edge"


def lifetime_s(cache_control: bytes) -> float | None:
    """For how long an answer may be kept, in seconds; None when it must not be."""
    found: dict[bytes, bytes] = {}
    for part in cache_control.split(b","):
        match = _DIRECTIVE.match(part)
        if match:
            found[match[1].lower()] = match[2] or b""
    if found.keys() & {b"no-store", b"private", b"no-cache"}:
        return None
    for name in (b"s-maxage", b"max-age"):
        if found.get(name):
            return float(found[name])
    return DEFAULT_TTL_S


@dataclass(slots=True)
class Cached:
    """One object as the origin gave it."""

    etag: bytes
    body: bytes
    #: the lines of its head that describe it, each with its line end
    lines: bytes
    stored_s: float
    fresh_until_s: float
    #: its whole answer up to the value of Age
    head: bytes = field(init=False)

    def __post_init__(self) -> None:
        size = b"content-length: %d\r\n" % len(self.body)
        self.head = b"HTTP/1.1 200 OK\r\n" + self.lines + size + _served(HIT) + b"age: "

    @property
    def size_bytes(self) -> int:
        return len(self.body) + len(self.lines) + OVERHEAD_BYTES


def cached(headers: Mapping[bytes, bytes], body: bytes, now_s: float) -> Cached | None:
    """The object in a 200 of the origin; None when it is not to be kept."""
    etag = headers.get(b"etag", b"")
    life_s = lifetime_s(headers.get(b"cache-control", b""))
    if not etag or not life_s or len(body) > OBJECT_MAX_BYTES or b"set-cookie" in headers:
        return None
    if headers.get(b"vary", b"").strip():
        return None
    lines = b"".join(b"%b: %b\r\n" % (n, headers[n]) for n in _KEPT if n in headers)
    return Cached(etag, body, lines + b"accept-ranges: bytes\r\n", now_s, now_s + life_s)


class Cache:
    """Objects by target (path and query), the least recently used dropped first."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.size_bytes = 0
        self.evicted = 0
        self._objects: OrderedDict[bytes, Cached] = OrderedDict()
        #: path → targets of it, for dropping them together
        self._variants: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, target: bytes) -> Cached | None:
        found = self._objects.get(target)
        if found is not None:
            self._objects.move_to_end(target)
        return found

    def put(self, target: bytes, item: Cached) -> None:
        self.drop(target)
        self._objects[target] = item
        self.size_bytes += item.size_bytes
        self._variants.setdefault(name_of(target), set()).add(target)
        while self.size_bytes > self.capacity_bytes:
            self.evicted += 1
            self.drop(next(iter(self._objects)))

    def drop(self, target: bytes) -> None:
        found = self._objects.pop(target, None)
        if found is None:
            return
        self.size_bytes -= found.size_bytes
        name = name_of(target)
        left = self._variants[name]
        left.discard(target)
        if not left:
            del self._variants[name]

    def invalidate(self, target: bytes) -> None:
        """Somebody changes what ``target`` names: the file and every image made of it go."""
        for known in list(self._variants.get(name_of(target), ())):
            self.drop(known)


def name_of(target: bytes) -> bytes:
    """The id of the object that a file's or an image's target names."""
    path = target.partition(b"?")[0]
    for prefix in CACHED_PREFIXES:
        if path.startswith(prefix):
            return path[len(prefix) :].partition(b"/")[0]
    return path


class Tokens:
    """What is known of the tokens in ``Authorization`` headers (whole values)."""

    def __init__(self) -> None:
        self._accepted_s: dict[bytes, float] = {}

    def known(self, token: bytes, now_s: float) -> bool:
        """Whether the origin accepted it, not too long ago."""
        accepted_s = self._accepted_s.get(token)
        return accepted_s is not None and now_s - accepted_s <= TOKEN_KNOWN_S

    def due(self, token: bytes, now_s: float) -> bool:
        """Whether the origin is to be asked about it (again)."""
        accepted_s = self._accepted_s.get(token)
        return accepted_s is None or now_s - accepted_s > TOKEN_FRESH_S

    def accept(self, token: bytes, now_s: float) -> None:
        if token:
            if len(self._accepted_s) >= MAX_TOKENS and token not in self._accepted_s:
                self._accepted_s.clear()
            self._accepted_s[token] = now_s

    def forget(self, token: bytes) -> None:
        self._accepted_s.pop(token, None)


# ---- answers ------------------------------------------------------------------------------


def from_object(
    item: Cached,
    headers: Mapping[bytes, bytes],
    now_s: float,
    *,
    result: bytes = HIT,
    served: bytes | None = None,
) -> bytes:
    """The whole answer to a GET with ``headers``: 200, 206, 304 or 416.

    ``served``: header lines that say who served, when it is not the edge itself.
    """
    age = b"%d\r\n\r\n" % max(0, int(now_s - item.stored_s))
    who = _served(result) if served is None else served + x_cache(result)
    matching = headers.get(b"if-none-match")
    if matching is not None and matches(matching, item.etag):
        return b"HTTP/1.1 304 Not Modified\r\n" + item.lines + who + b"age: " + age
    wanted = headers.get(b"range")
    if wanted is not None:
        given = headers.get(b"if-range")
        if given is None or given.strip() == item.etag:
            part = range_of(wanted, len(item.body))
            if part is not None:
                return _part(item, part, who + b"age: " + age)
    if served is None and result is HIT:
        return item.head + age + item.body
    size = b"content-length: %d\r\n" % len(item.body)
    return b"HTTP/1.1 200 OK\r\n" + item.lines + size + who + b"age: " + age + item.body


def _part(item: Cached, part: range, rest: bytes) -> bytes:
    size = len(item.body)
    if not part:
        lines = b"content-range: bytes */%d\r\ncontent-length: 0\r\n" % size
        return b"HTTP/1.1 416 Range Not Satisfiable\r\n" + lines + rest
    lines = item.lines + b"content-range: bytes %d-%d/%d\r\ncontent-length: %d\r\n" % (
        part.start,
        part.stop - 1,
        size,
        len(part),
    )
    return b"HTTP/1.1 206 Partial Content\r\n" + lines + rest + item.body[part.start : part.stop]


def range_of(value: bytes, size_bytes: int) -> range | None:
    """The bytes asked for: empty when none of them exists, None for what is to be ignored
    (several ranges, another unit, a range that ends before it begins)."""
    match = _RANGE.fullmatch(value.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return range(max(0, size_bytes - int(match[2])), size_bytes)
    first = int(match[1])
    last = int(match[2]) if match[2] else size_bytes - 1
    if match[2] and last < first:
        return None
    return range(first, min(last + 1, size_bytes)) if first < size_bytes else range(0)


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Whether ``If-None-Match`` names this entity tag (weak comparison)."""
    tags = {tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")}
    return etag.removeprefix(b"W/") in tags or b"*" in tags


def x_cache(result: bytes) -> bytes:
    """The header line that says how it was answered."""
    return b"x-cache: " + result + b" from " + NAME + b"\r\n"


def _served(result: bytes) -> bytes:
    return b"x-served-region: " + NAME + b"\r\n" + x_cache(result)


def own_error(status: int, code: str, message: str) -> bytes:
    """The edge's own answer when the origin gave none."""
    body = b'{"error":"%b","code":"%b"}' % (message.encode(), code.encode())
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        % (status, REASONS[status], len(body))
        + _served(ERROR)
        + b"\r\n"
        + body
    )
