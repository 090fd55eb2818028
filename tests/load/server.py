"""A small real HTTP service with the API that the traffic uses, and faults to switch on.

It runs on an asyncio loop in a thread of its own and keeps what it stores in memory.
Freezing it blocks that loop: like a stopped process it accepts nothing and answers nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from harness.load import jpeg

REASONS = {200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content"}


@dataclass
class Faults:
    """What is wrong with the service; everything can be changed while it runs."""

    #: (status, content type, body) answered to everything but the token
    answer: tuple[int, str, bytes] | None = None
    #: methods that ``answer``, ``hang`` and ``drip_s`` apply to; None: all
    methods: frozenset[str] | None = None
    #: never answer
    hang: bool = False
    #: seconds between each fifth of a response body
    drip_s: float = 0.0
    #: delay of every answer
    delay_s: float = 0.0
    #: flip a byte of every download
    alter: bool = False
    #: acknowledge, but do not keep, every n-th upload (from the n-th on)
    lose_every: int = 0
    #: keep every n-th upload with another byte
    alter_every: int = 0
    #: one picture for all that are asked for, and what is said of each in its head
    placeholder: str = ""
    says: dict[str, str] = field(default_factory=dict)
    #: close the connection after each response without saying so
    close_after: bool = False
    #: cut the body short and close
    cut: bool = False
    token_life_s: float = 300.0
    #: uploads in parts are not known here
    no_parts: bool = False
    #: what befalls the next parts, one after another: (status, or 0 for a cut connection; whether
    #: the part is kept all the same)
    parts: list[tuple[int, bool]] = field(default_factory=list)


@dataclass
class StandIn:
    """The service. ``url`` is where it listens; use it as a context manager."""

    faults: Faults = field(default_factory=Faults)
    host: str = "127.0.0.1"
    port: int = 0
    region: str = "us-east-1"
    zone: str = "us-east-1a"

    def __post_init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.requests: Counter[str] = Counter()
        self.connections = 0
        #: monotonic instant of the last request but for a token
        self.last_request_m = 0.0
        self.uploads = 0
        #: uploads in parts: path → (id, content type, length, bytes so far)
        self.begun: dict[str, tuple[str, str, int, bytes]] = {}
        self.lost: list[str] = []
        self.altered: list[str] = []
        self._tokens: dict[str, float] = {}
        self._variants: dict[int, bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> StandIn:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def freeze(self, duration_s: float) -> None:
        """Stand still for ``duration_s``, from now; returns at once."""
        self._loop.call_soon_threadsafe(time.sleep, duration_s)

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, self.host, self.port, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests[method] += 1
        if target != "/v1/token":
            self.last_request_m = time.monotonic()
        faults = self.faults
        hit = target != "/v1/token" and (faults.methods is None or method in faults.methods)
        if hit and faults.hang:
            await asyncio.sleep(3600)
        if hit and faults.answer:
            status, kind, answer = faults.answer
            extra = {"Content-Type": kind}
        else:
            status, extra, answer = self._answer(method, target, headers, body)
        if not status:
            return False
        if hit and faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        await self._write(writer, method, status, extra, answer, faults if hit else Faults())
        return not faults.close_after and not faults.cut

    async def _write(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        status: int,
        extra: dict[str, str],
        body: bytes,
        faults: Faults,
    ) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}"]
        lines += [f"{k}: {v}" for k, v in extra.items()]
        lines += [f"X-Served-Region: {self.region}", f"X-Served-Zone: {self.zone}"]
        lines += ["X-Served-Pod: stand-in", "X-Served-Version: 1"]
        if status not in (204, 304):
            lines.append(f"Content-Length: {len(body)}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if method == "HEAD" or status in (204, 304):
            body = b""
        if faults.cut:
            body = body[: len(body) // 2]
        step = max(1, -(-len(body) // 5)) if faults.drip_s else max(1, len(body))
        for at in range(0, len(body), step):
            writer.write(body[at : at + step])
            if faults.drip_s:
                await asyncio.sleep(faults.drip_s)
        await writer.drain()

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        if parts.path == "/v1/token":
            token = f"token-{len(self._tokens)}-{time.monotonic_ns()}"
            self._tokens[token] = time.monotonic() + self.faults.token_life_s
            return _json(200, {"token": token, "expires_in": self.faults.token_life_s})
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0) < time.monotonic():
            return _json(401, {"error": "token"})
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if parts.path == "/v1/files":
            names = [n for n in sorted(self.files) if n.startswith(query.get("prefix", ""))]
            return _json(200, {"files": names[: int(query["limit"])]})
        if parts.path.startswith("/v1/uploads") and not self.faults.no_parts:
            return self._in_parts(method, parts.path, headers, body)
        if parts.path == "/v1/uploads":
            return _json(404, {"error": "no such path"})
        kind, object_id = parts.path.removeprefix("/v1/").split("/")
        if method == "PUT":
            return self._put(object_id, headers, body)
        if object_id not in self.files:
            return _json(404, {"error": "no such object"})
        if method == "DELETE":
            del self.files[object_id]
            return 204, {}, b""
        if kind == "images":
            shown = self.faults.placeholder or object_id
            body = jpeg.with_comment(self._variant(int(query["w"])), shown)
            return 200, {"Content-Type": "image/jpeg", **self.faults.says}, body
        return self._get(object_id, headers)

    def _put(
        self, object_id: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        sha256 = hashlib.sha256(body).hexdigest()
        if headers["x-checksum-sha256"] != sha256:
            return _json(400, {"error": "checksum"})
        self.uploads += 1
        faults = self.faults
        if faults.lose_every and self.uploads % faults.lose_every == 0:
            self.lost.append(object_id)
        elif faults.alter_every and self.uploads % faults.alter_every == 0:
            self.altered.append(object_id)
            self.files[object_id] = (bytes([body[0] ^ 1]) + body[1:], headers["content-type"])
        else:
            self.files[object_id] = (body, headers["content-type"])
        status, extra, answer = _json(201, {"id": object_id})
        return status, {**extra, "ETag": f'"{sha256}"', "X-Checksum-Sha256": sha256}, answer

    def _in_parts(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert headers["tus-resumable"] == "1.0.0"
        if method == "POST":
            pairs = (pair.split(" ") for pair in headers["upload-metadata"].split(","))
            known = {key: base64.b64decode(value).decode() for key, value in pairs}
            path = f"{path}/{len(self.begun)}"
            length = int(headers["upload-length"])
            self.begun[path] = (known["filename"], known["filetype"], length, b"")
            return 201, {"Location": f"{self.url}{path}"}, b""
        if path not in self.begun:
            return _json(404, {"error": "no such upload"})
        object_id, kind, length, data = self.begun[path]
        if method == "HEAD":
            return 200, {"Upload-Offset": str(len(data))}, b""
        status, kept = self.faults.parts.pop(0) if self.faults.parts else (204, True)
        if int(headers["upload-offset"]) != len(data):
            return _json(409, {"error": "wrong offset"})
        data += body if kept else b""
        self.begun[path] = (object_id, kind, length, data)
        if len(data) == length:
            self.uploads += 1
            self.files[object_id] = (data, kind)
        if status != 204:
            return _json(status, {"error": "a fault"})
        return 204, {"Upload-Offset": str(len(data))}, b""

    def _get(self, object_id: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        body, kind = self.files[object_id]
        sha256 = hashlib.sha256(body).hexdigest()
        extra = {"Content-Type": kind, "ETag": f'"{sha256}"', "X-Checksum-Sha256": sha256}
        if headers.get("if-none-match") == extra["ETag"]:
            return 304, extra, b""
        if self.faults.alter:
            body = bytes([body[0] ^ 1]) + body[1:]
        if "range" in headers:
            first, last = map(int, headers["range"].removeprefix("bytes=").split("-"))
            extra["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            return 206, extra, body[first : last + 1]
        return 200, extra, body

    def _variant(self, width: int) -> bytes:
        if width not in self._variants:
            self._variants[width] = jpeg.picture(str(width), width, width // 32 * 24, texture=1)
        return self._variants[width]


def _json(status: int, document: object) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()
