"""What a hostile server does, as data: written by a generator, kept as JSON, shrunk when it fails.

A case is some exchanges on one client, one after the other; each says what is asked and what the
server does (steps):

``["request"]`` read one whole request · ``["head"]``, ``["rest"]`` its head, its body ·
``["send", text]`` · ``["batch", [text, …]]`` one segment (in TLS: a record each) ·
``["fill", text, times]`` · ``["pause", seconds]`` · ``["close"]`` · ``["reset"]`` · ``["half"]``
close the sending side · ``["notify"]`` TLS's own end, then close · ``["raw", text]`` past TLS ·
``["handshake", bytes]`` send only so many bytes of the server's part of it.

Text is bytes as Latin-1. ``expect``, where given, are the outcomes that may be; else an oracle
says which.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

Step = list[Any]
CORPUS = Path(__file__).with_name("corpus")
#: Of every client here: small, so that a body that is too large is soon sent.
BODY_MAX_BYTES = 400_000
FIRST_BYTES = 8192


@dataclass
class Asked:
    """One exchange. ``expect``: error names (``""``: a whole answer); None: ask the oracle."""

    steps: list[Step]
    method: str = "GET"
    take: str = "keep"
    upload_bytes: int = 0
    expect: list[str] | None = None


@dataclass
class Case:
    """Exchanges of one client, in order."""

    exchanges: list[Asked]
    tls: bool = False
    why: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Case:
        data = json.loads(text)
        return Case([Asked(**a) for a in data["exchanges"]], data["tls"], data["why"])


def corpus() -> list[tuple[str, Case]]:
    """Every kept case by its name."""
    return [(p.stem, Case.from_json(p.read_text())) for p in sorted(CORPUS.glob("*.json"))]


def stream(steps: list[Step]) -> bytes:
    """All that the server says in these steps."""
    said = b""
    for step in steps:
        if step[0] == "send":
            said += step[1].encode("latin-1")
        elif step[0] == "batch":
            said += "".join(step[1]).encode("latin-1")
        elif step[0] == "fill":
            said += step[1].encode("latin-1") * step[2]
    return said


# ---- generation ---------------------------------------------------------------------------

_STATUSES = [200] * 8 + [201, 204, 206, 301, 304, 400, 404, 413, 429, 500, 503, 599]
# fmt: off
_NAMES = [
    "X-A",
    "Server",
    "Date",
    "Set-Cookie",
    "Location",
    "x-served-region",
    "ETag",
    "Via",
    "Vary",
]
_VALUES = ["x", "", "a b\tc", "é", ",,,", '"', "close", "chunked", "5", "x" * 300, "\x01\x7f", ":"]
_SIZES = [0, 0, 1, 2, 5, 5, 17, 100, 1000, 8000, 8192, 9000, 20_000, 65_536, 300_000]
_INTERIM = ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n"]
_CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Without end, or nearly, and how each must end.
_EXTREMES = [
    ("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 12_000, "head-too-large"),
    ("HTTP/1.1 200 OK\r\nX: " + "y" * 70_000, "head-too-large"),
    ("HTTP/1.1 103 " + "y" * 70_000 + "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "head-too-large"),
    ("HTTP/1.1 100 Continue\r\n\r\n" * 40, "bad-response"),
    ("HTTP/1.1 200 OK\r\n\r\n" + "x" * (BODY_MAX_BYTES + 1), "body-too-large"),
    (_CHUNKED + ("400\r\n" + "x" * 1024 + "\r\n") * 400, "body-too-large"),
    (_CHUNKED + "0\r\n" + "X: y\r\n" * 20_000, "head-too-large"),
    (_CHUNKED + "1;" + "x" * 70_000, "head-too-large"),
]
_LAST_CHUNKS = ["0\r\n\r\n"] * 2 + ["000\r\nX: y\r\n\r\n", "0;x\r\nA: b\r\nC: d\r\n\r\n"]
_TOKENS = [
    "\r\n", "\n", "\r", "\r\n\r\n", "\0", " ", "\t", ":", ";", ",", "0", "-", "+", "0x",
    "f" * 17, "Content-Length: 5\r\n", "Content-Length: 6\r\n", "content-length:5,5\r\n",
    "Content-Length: -1\r\n", "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 5\r\n 6\r\n", "Content-Length :5\r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding:\r\n", "Transfer-Encoding: identity\r\n", "Connection: close\r\n",
    "Connection: keep-alive\r\n", "Connection:\r\n close\r\n", "X: y\r\n\tz\r\n",
    "HTTP/1.1 200 OK\r\n", "HTTP/1.0 ", "HTTP/2 ", "SSH-2.0-x", "HTTP/1.1 101 X\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
    "0\r\n\r\n", "5\r\nhello\r\n", "7fffffffffffffff\r\n", "1;" + "x" * 200 + "\r\n",
    "-1\r\n", "0\r\nX: y\r\n\r\n", "\x16\x03\x01\x02\0\x01", "\xff\xfe", "x" * 9000,
]  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """Cases without end; the same for the same seed."""
    for number in range(1 << 60):
        yield case(random.Random(f"{seed}:{number}"))


def mutants(seed: int) -> Iterator[Case]:
    """Kept cases with something else wrong, without end."""
    kept = [case for _, case in corpus() if not case.tls]
    for number in range(1 << 60):
        rng = random.Random(f"{seed}:mutant:{number}")
        exchanges = []
        for asked in rng.choice(kept).exchanges[:3]:
            steps = [["send", mutated(rng, s[1])] if s[0] == "send" else s for s in asked.steps]
            exchanges.append(replace(asked, steps=steps, expect=None))
        yield Case(exchanges)


def case(rng: random.Random) -> Case:
    """One case."""
    tls = rng.random() < 0.2
    exchanges = [_asked(rng, tls) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if tls and rng.random() < 0.2:
        exchanges = [_bad_handshake(rng)]
    elif rng.random() < 0.2:
        # What an answer is known by is learnt from those before it.
        exchanges = [exchanges[0]] * 3 + exchanges[1:]
    return Case(exchanges, tls)


def answer(rng: random.Random, method: str = "GET") -> str:
    """A sound answer, interims included."""
    said = ""
    for _ in range(rng.choice([0] * 12 + [1, 1, 2, 15])):
        said += rng.choice(
            ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n"]
        )
    status = rng.choice(_STATUSES)
    lines = [
        f"HTTP/1.{rng.choice('1111110')} {status}{rng.choice([' OK', ' ', '', ' Not Really'])}"
    ]
    for _ in range(rng.randrange(5)):
        lines.append(f"{rng.choice(_NAMES)}:{rng.choice(['', ' ', ' ' * 3])}{rng.choice(_VALUES)}")
    if rng.random() < 0.2:
        lines.append(f"Connection: {rng.choice(['close', 'keep-alive', 'x, Close', 'Keep-Alive'])}")
    size = rng.choice(_SIZES)
    body = "".join(rng.choices("abcdefgh", k=min(size, 50))) * (size // 50 + 1)
    body = body[:size]
    framing = rng.choice(["length"] * 4 + ["chunked"] * 3 + ["end"])
    empty = status in (204, 304) or method == "HEAD"
    if framing == "length":
        lines.append(f"Content-Length: {size}")
    elif framing == "chunked":
        lines.append(f"Transfer-Encoding: {rng.choice(['chunked', 'Chunked'])}")
        body = _chunked(rng, body)
    rng.shuffle(lines[1:])
    head = "\r\n".join(lines) + "\r\n\r\n"
    if rng.random() < 0.1 and not empty:
        # Just as much as is read at once.
        missing = FIRST_BYTES - len(head) - len(body) - len("X-Pad: \r\n")
        if missing > 0:
            head = head[:-2] + f"X-Pad: {'p' * missing}\r\n\r\n"
    return said + head + ("" if empty else body)


def _chunked(rng: random.Random, body: str) -> str:
    said, at = "", 0
    while at < len(body):
        size = min(len(body) - at, rng.choice([1, 3, 10, 1000, 100_000]) if at < 200 else 100_000)
        size_text = f"{size:x}" if rng.random() < 0.8 else f"{size:06X}"
        said += f"{size_text}{rng.choice(['', '', '', ';a=b', ';'])}\r\n{body[at : at + size]}\r\n"
        at += size
    return said + rng.choice(
        ["0\r\n\r\n", "0\r\n\r\n", "000\r\nX: y\r\n\r\n", "0;x\r\nA: b\r\nC: d\r\n\r\n"]
    )


def mutated(rng: random.Random, said: str) -> str:
    """The text with something wrong, perhaps."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        # Most of what matters is near the start, or at the very end.
        reach = len(said) if rng.random() < 0.3 else min(len(said), 200)
        at = rng.randrange(reach + 1)
        kind = rng.randrange(8)
        if kind == 0:
            said = said[:at] + said[at + 1 :]
        elif kind == 1:
            said = said[:at] + chr(rng.randrange(256)) + said[at + 1 :]
        elif kind in (2, 3):
            said = said[:at] + rng.choice(_TOKENS) + said[at:]
        elif kind == 4:
            said = said[:at]
        elif kind == 5:
            said += rng.choice(_TOKENS)
        elif kind == 6:
            lines = said.split("\r\n", 6)
            lines.insert(rng.randrange(len(lines)), rng.choice(_TOKENS).removesuffix("\r\n"))
            said = "\r\n".join(lines)
        else:
            to = rng.randrange(at, min(len(said), at + 80) + 1)
            said = said[:to] + said[at:to] + said[to:]
    return said


def pieces(rng: random.Random, said: str, tls: bool) -> list[Step]:
    """The text in steps, however cut."""
    kind = rng.random()
    if kind < 0.35 or not said:
        return [["send", said]]
    if kind < 0.45:
        drip = rng.randrange(1, 120)
        steps: list[Step] = [["send", c] for c in said[:drip]]
        steps.append(["send", said[drip:]])
        if tls:
            return [["batch", [*said[:drip], said[drip:]]]]
        return steps
    reach = len(said) if rng.random() < 0.5 else min(len(said), 300)
    cuts = sorted({rng.randrange(reach + 1) for _ in range(rng.randrange(1, 7))})
    parts = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True) if a < b]
    if rng.random() < 0.3:
        return [["batch", parts]]
    steps = []
    for part in parts:
        steps.append(["send", part])
        if rng.random() < 0.5:
            steps.append(["pause", rng.choice([0.0005, 0.002, 0.005])])
    return steps


def _asked(rng: random.Random, tls: bool) -> Asked:
    method = rng.choice(["GET"] * 6 + ["HEAD", "PUT", "PUT", "POST"])
    upload = rng.choice([0, 10, 20_000, 200_000, 3_000_000]) if method in ("PUT", "POST") else 0
    said = answer(rng, method)
    if rng.random() < 0.5:
        said = mutated(rng, said)
    take = rng.choice(["keep", "hash", "drop", "drop"])
    if rng.random() < 0.02:
        said, error = rng.choice(_EXTREMES)
        return Asked([["request"], *pieces(rng, said, tls)], "GET", take, expect=[error])
    steps = pieces(rng, said, tls)
    start: list[Step] = [["request"]]
    kind = rng.random()
    if upload and kind < 0.2:
        start = [["head"], ["send", "HTTP/1.1 100 Continue\r\n\r\n"], ["rest"]]
    elif upload and kind < 0.35:
        start = [["head"]]  # and never reads the rest
    elif kind < 0.02:
        start = []  # says what it has to say unasked
    end: list[Step] = rng.choice([[]] * 12 + [[["close"]]] * 4 + [[["reset"]]] * 2 + [[["half"]]])
    if tls and end == [["close"]] and rng.random() < 0.5:
        end = [["notify"]]
    return Asked([*start, *steps, *end], method, take, upload)


def _bad_handshake(rng: random.Random) -> Asked:
    garbage = "".join(chr(rng.randrange(256)) for _ in range(rng.randrange(1, 300)))
    kind = rng.randrange(3)
    if kind == 0:
        steps: list[Step] = [["raw", garbage], ["pause", 0.01], ["close"]]
    elif kind == 1:
        steps = [["handshake", rng.randrange(600)], rng.choice([["close"], ["reset"]])]
    else:
        steps = [["handshake", rng.randrange(600)]]
        return Asked(steps, expect=["connect-timeout"])
    return Asked(steps, expect=["tls"])
