"""Our parser beside h11 on the same bytes, without sockets: same answer and end, or a name."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from harness.load.wire.message import (
    CHUNKED,
    ERRORS,
    HEAD_MAX_BYTES,
    INTERIM_MAX,
    TO_THE_END,
    Chunks,
    Malformed,
    parse_head,
)
from tests.load.fuzz.oracle import CUT, WHOLE, WRONG, laxer, policies, read
from tests.load.fuzz.script import answer, mutated


@dataclass
class Compared:
    """What was met."""

    answers: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[bytes, str]] = field(default_factory=list)


def ours(said: bytes, method: str, rng: random.Random | None = None) -> tuple[str, int, bytes, int]:
    """As :func:`oracle.read`; a refusal's kind is its name. Ends with the connection."""
    at = interims = 0
    try:
        while True:
            end = said.find(b"\r\n\r\n", at, at + HEAD_MAX_BYTES) + 4
            if end < 4:
                if len(said) - at >= HEAD_MAX_BYTES:
                    raise Malformed("head-too-large")
                return CUT, 0, b"", 0
            head = parse_head(said[at:end])
            at = end
            if head.status >= 200:
                break
            interims += 1
            if head.status == 101 or interims > INTERIM_MAX:
                raise Malformed("bad-response")
        if method == "HEAD":
            return WHOLE, head.status, b"", len(said) - at
        if head.length == TO_THE_END:
            return WHOLE, head.status, said[at:], 0
        if head.length != CHUNKED:
            if len(said) - at < head.length:
                return CUT, head.status, b"", 0
            body = said[at : at + head.length]
            return WHOLE, head.status, body, len(said) - at - head.length
        chunks, body = Chunks(), b""
        while at < len(said) and not chunks.done:
            size = rng.randrange(1, 2000) if rng is not None else len(said)
            used, pieces = chunks.feed(memoryview(said)[at : at + size])
            body += b"".join(pieces)
            at += used
        return (WHOLE if chunks.done else CUT), head.status, body, len(said) - at
    except Malformed as wrong:
        return wrong.name, 0, b"", 0


def difference(said: bytes, method: str, rng: random.Random | None = None) -> tuple[str, str]:
    """``(what ours made of it, what is wrong with that or "")``."""
    mine, theirs = ours(said, method, rng), read(said, method, True)
    kind = mine[0]
    if kind not in (WHOLE, CUT):
        if kind not in ERRORS:
            return kind, f"{kind!r} is no name of an error"
        if theirs[0] == WRONG or kind in policies(said):
            return kind, ""
        return kind, f"refused as {kind}, and h11 says {theirs[:2]}"
    if kind == CUT:
        if theirs[0] == WHOLE and not policies(said):
            return kind, f"not whole, and h11 says {theirs[:2]}"
        return kind, ""
    if theirs[0] == WHOLE:
        same = mine[1:] == theirs[1:]
        return kind, "" if same else f"another answer: {mine[1:]!r:.200} for {theirs[1:]!r:.200}"
    if laxer(said):
        return kind, ""
    return kind, f"taken as {mine[1:]!r:.200}, and h11 says {theirs[0]}"


def compare(seed: int, end_m: float, most: int | None = None) -> Compared:
    """Compare generated answers until the time is over, or so many."""
    found = Compared()
    while time.monotonic() < end_m and (most is None or found.answers < most):
        rng = random.Random(f"{seed}:parsers:{found.answers}")
        method = rng.choice(["GET", "GET", "GET", "HEAD", "PUT"])
        text = answer(rng, method)
        said = (mutated(rng, text) if rng.random() < 0.8 else text).encode("latin-1")
        kind, problem = difference(said, method, rng)
        found.answers += 1
        found.kinds[kind] += 1
        if problem and len(found.problems) < 20:
            found.problems.append((said, problem))
    return found
