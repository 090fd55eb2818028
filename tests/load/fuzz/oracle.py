"""What may become of an exchange, said by another parser (h11) and by what is policy of ours.

Ours may refuse more than h11 does, where a rule below says so; it may take nothing that h11
refuses, and where both take an answer they must agree about its status and every byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11

from tests.load.fuzz.script import BODY_MAX_BYTES, Asked, stream

WHOLE, CUT, WRONG = "whole", "cut", "wrong"
_INTERIMS = re.compile(rb"(?:HTTP/1\.[01] 1\d\d(?: [^\r\n\0]*)?(?:\r\n[^\r\n]+)*\r\n\r\n)*")
_HEAD_MAX = 64 * 1024
_REFUSALS = {"bad-response", "wrong-length", "head-too-large", "body-too-large"}


@dataclass
class Allowed:
    """Error names that may be; with ``""`` the status and body of the answer."""

    errors: set[str] = field(default_factory=set)
    status: int = 0
    body: bytes = b""
    #: a whole answer may be, and nobody says which
    unknown: bool = False
    #: bytes after the answer
    rest: int = 0


def read(said: bytes, method: str, ended: bool) -> tuple[str, int, bytes, int]:
    """``(kind, status, body, bytes left over)`` as h11 sees it."""
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 24)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    status, body, closing = 0, [], False
    try:
        peer.receive_data(said) if said else None
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return WHOLE, status, b"".join(body), len(peer.trailing_data[0])
            elif event is h11.NEED_DATA and ended and not closing:
                closing = True
                peer.receive_data(b"")
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return CUT, status, b"", 0
    except h11.RemoteProtocolError:
        return (CUT if closing else WRONG), status, b"", 0


def allowed(asked: Asked, tls: bool) -> Allowed:
    """What may become of this exchange."""
    if asked.expect is not None:
        found = Allowed(set(asked.expect))
        if "" in found.errors:
            _, found.status, found.body, found.rest = read(stream(asked.steps), asked.method, True)
        return found
    said = stream(asked.steps)
    verbs = [step[0] for step in asked.steps]
    ends = {"close", "half", "notify"} & set(verbs)
    reset = "reset" in verbs
    # TLS has an end of its own: without it, what ends with the connection was cut.
    proper = bool(ends) and not (tls and "notify" not in verbs)
    kind, status, body, rest = read(said, asked.method, proper)
    found = Allowed(policies(said), status, body, rest)
    unread = not {"request", "rest"} & set(verbs) and (asked.upload_bytes or "head" not in verbs)
    end = {"timeout"}
    if reset:
        end = {"reset", "closed"} if asked.upload_bytes or tls else {"reset"}
    elif ends:
        # Closed with unread bytes of the request, it is a reset.
        end = {"closed", "reset"} if unread else {"closed"}
    if tls and (reset or unread):
        end |= {"tls", "reset"}
    if kind == WHOLE:
        if rest:
            found.errors.add("unasked")
        if not (rest and _in_one_piece(asked, tls)):
            found.errors.add("")
        if reset or (ends and unread):
            found.errors |= end
    elif kind == CUT:
        found.errors |= end
    else:
        found.errors |= _REFUSALS | end
        if laxer(said):
            # Nobody to say what the answer is; that it ends in time is still looked at.
            found.errors |= {"", "unasked"}
            found.unknown = True
    if asked.upload_bytes and status >= 300 and "rest" in verbs:
        found.errors |= {"timeout"}
    if "timeout" in found.errors:
        found.errors.add("connect-timeout")  # a deadline so near that it may be met on the way
    return found


def _in_one_piece(asked: Asked, tls: bool) -> bool:
    """Whether all that is said surely comes at once: what follows the answer comes with it."""
    said = [len(step[1]) for step in asked.steps if step[0] == "send"]
    return not tls and not asked.upload_bytes and len(said) == 1 and said[0] < 4096


def laxer(said: bytes) -> bool:
    """Whether ours may take what h11 refuses: white space before a chunk's extension (RFC 9112,
    7.1.1), and lengths among the trailers, which mean nothing there."""
    lower = said.lower()
    trailer = rb"\r\n0+[ \t]*(;[^\r\n]*)?\r\n([^\r\n]+\r\n)*(content-length|transfer-encoding):"
    return b"chunked" in lower and bool(re.search(rb"[0-9a-f][ \t]+;|" + trailer, lower))


def policies(said: bytes) -> set[str]:
    """Names under which ours may refuse what h11 takes, and why."""
    found = set()
    before = _INTERIMS.match(said).end()  # type: ignore[union-attr]
    after = said[before:]
    heads = [*said[:before].split(b"\r\n\r\n"), after.partition(b"\r\n\r\n")[0]]
    lower = said.lower()
    if max(map(len, heads)) >= _HEAD_MAX - 4:
        found.add("head-too-large")
    if after and not after.startswith(b"HTTP/1."[: len(after)]):
        found.add("bad-response")  # known before the head is whole
    if re.search(rb"(?<!\r)\n|\r(?!\n)|\0", said):
        found |= {"bad-response"}  # line ends that others see elsewhere
        if re.search(rb"(?<!\r)\n", said):
            # To us the head goes on.
            found |= {"closed", "timeout", "reset", "head-too-large", "unasked", "wrong-length"}
    if said[:1] in (b"\r", b"\n"):
        found.add("bad-response")
    if not re.match(rb"HTTP/1\.[01] [1-5]", after):
        found.add("bad-response")
    if len(re.findall(rb"HTTP/1\.[01] 1\d\d", said)) > 16 or re.search(rb"HTTP/1\.[01] 101", said):
        found.add("bad-response")
    if b"content-length" in lower and b"transfer-encoding" in lower:
        found.add("wrong-length")
    if re.search(rb"content-length:[^\r\n]*(\d{19}|,)", lower):
        found |= {"bad-response", "wrong-length"}
    if b"chunked" in lower and re.search(rb"\r\n(0+[ \t]*(;[^\r\n]*)?\r\n|[ \t])", said):
        found.add("bad-response")  # a trailer is looked at before its end, and may not be folded
    if re.search(rb"[\v\f]", said):
        found.add("bad-response")
    if lower.count(b"transfer-encoding") > 1 or re.search(rb"[0-9a-f]{16}", lower):
        found.add("bad-response")
    if re.search(rb"content-length:[ \t]*0*[4-9]\d{5}|content-length:[ \t]*0*\d{7}", lower):
        found.add("body-too-large")
    if re.search(rb"\n0*[0-9a-f]{5,}", lower) or len(said) > BODY_MAX_BYTES:
        found.add("body-too-large")
    if len(said) > _HEAD_MAX and b"chunked" in lower:
        found.add("head-too-large")  # trailers and chunk extensions
    return found
