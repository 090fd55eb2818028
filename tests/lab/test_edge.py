"""The edge: what it keeps, whom it gives it to, and what it does when the origin is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.lab import proc
from harness.lab.dns import Answer, DnsServer, Record
from harness.lab.edge import cache
from harness.lab.edge.cache import Cache, Cached, Tokens
from harness.lab.edge.connection import Connection
from harness.lab.edge.server import Edge, Waits
from harness.lab.services.client import HttpClient
from harness.lab.services.dns import Resolver

HOST = "api.fileservice.lab"
BODY = bytes(range(256)) * 40
GOOD = {"authorization": "Bearer good"}
QUICK = Waits(connect_s=0.3, read_s=0.6, write_s=0.8)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def cached(self) -> str:
        return self.headers["x-cache"].partition(" ")[0]

    @property
    def region(self) -> str:
        return self.headers["x-served-region"]


@dataclass
class Origin:
    """A file service: objects by path, one good token, and ways to misbehave."""

    region: str
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    extra: str = ""
    status: int = 0
    hold: asyncio.Event | None = None
    server: asyncio.Server | None = None
    clients: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def stop(self) -> None:
        """No more, and nothing of what there was."""
        assert self.server is not None
        self.server.close()
        for client in self.clients:
            client.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(f"{method} {target}")
        if self.hold is not None:
            await self.hold.wait()
        status, found, more = self._answer(method, target, headers, body)
        writer.write(
            f"HTTP/1.1 {status} x\r\nx-served-region: {self.region}\r\n"
            f"x-served-zone: {self.region}a\r\n{more}{self.extra}".encode()
        )
        if status not in (204, 304):
            writer.write(b"content-length: %d\r\n" % len(found))
        writer.write(b"\r\n" + (b"" if method == "HEAD" else found))

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes, str]:
        if self.status:
            return self.status, b"broken", ""
        if headers.get("authorization") != GOOD["authorization"]:
            return 401, b'{"error":"who?"}', ""
        if method == "PUT":
            self.objects[target] = (f'"{len(self.asked)}"', body)
            return 201, b"{}", ""
        if method == "DELETE":
            self.objects.pop(target, None)
            return 204, b"", ""
        if target not in self.objects:
            return 404, b'{"error":"no"}', ""
        etag, content = self.objects[target]
        if headers.get("if-none-match") == etag:
            return 304, b"", f"etag: {etag}\r\n"
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1]
            return 206, part, f"content-range: bytes {first}-{last}/{len(content)}\r\n"
        return 200, content, f"etag: {etag}\r\ncontent-type: application/octet-stream\r\n"


@dataclass
class World:
    """An edge with an origin in each of two regions; DNS answers with ``at``."""

    edge: Edge
    east: Origin
    west: Origin
    address: tuple[str, int]
    at: list[str]
    now_s: float

    async def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            return await exchange(reader, writer, method, target, headers, body)
        finally:
            writer.close()

    async def get(self, target: str, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", target, GOOD | named)


async def exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    lines = [f"{method} {target} HTTP/1.1", "Host: cdn.fileservice.lab"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *rest = head.strip().split("\r\n")
    found = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in rest)}
    size = 0 if method == "HEAD" else int(found.get("content-length", 0))
    content = await reader.readexactly(size)
    return Reply(int(first.split(" ")[1]), found, content)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    east, west = Origin("us-east-1"), Origin("us-west-2")
    east.server = await asyncio.start_server(east.serve, "127.57.1.1", 0)
    port = east.server.sockets[0].getsockname()[1]
    west.server = await asyncio.start_server(west.serve, "127.57.3.1", port)
    at = ["127.57.1.1"]

    def answer(name: str, kind: str) -> Answer:
        return Answer(tuple(Record(name, "A", 1, a) for a in at) if kind == "A" else ())

    async with DnsServer("127.57.0.53", 0, answer) as dns:
        resolver = Resolver((dns.host, dns.port), refresh_s=0.1)
        client = HttpClient(resolver, connect_timeout_s=QUICK.connect_s)
        edge = Edge(client, (HOST, port), waits=QUICK)
        listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(edge), "127.57.0.40", 0
        )
        found = World(edge, east, west, listener.sockets[0].getsockname(), at, 0.0)
        clock = edge.now
        edge.now = lambda: clock() + found.now_s  # a test may let time pass
        try:
            yield found
        finally:
            listener.close()
            for origin in (east, west):
                origin.stop()
            await client.close()
            await resolver.close()


def in_world(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def body() -> None:
            async with world() as found:
                found.east.objects["/v1/files/a"] = ('"one"', BODY)
                await asyncio.wait_for(test(found), 20)

        asyncio.run(body())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


# ---- what is kept ---------------------------------------------------------------------------


@in_world
async def test_the_second_download_is_a_hit_and_no_regions_answer(w: World) -> None:
    first = await w.get("/v1/files/a")
    second = await w.get("/v1/files/a")
    assert (first.status, first.cached, first.region) == (200, "Miss", "us-east-1")
    assert (second.status, second.cached, second.region) == (200, "Hit", "edge")
    assert first.body == second.body == BODY
    assert "x-served-zone" not in second.headers
    assert (second.headers["etag"], second.headers["age"]) == ('"one"', "0")
    assert w.east.asked == ["GET /v1/files/a"]
    w.now_s = 7
    assert (await w.get("/v1/files/a")).headers["age"] in ("7", "8")


@in_world
async def test_parts_and_conditions_are_answered_from_the_whole(w: World) -> None:
    await w.get("/v1/files/a")
    part = await w.get("/v1/files/a", range="bytes=256-511")
    assert (part.status, part.body) == (206, BODY[256:512])
    assert part.headers["content-range"] == f"bytes 256-511/{len(BODY)}"
    assert (await w.get("/v1/files/a", range="bytes=-6")).body == BODY[-6:]
    beyond = await w.get("/v1/files/a", range=f"bytes={len(BODY)}-")
    assert (beyond.status, beyond.body) == (416, b"")
    assert (await w.get("/v1/files/a", range="bytes=0-1,4-5")).status == 200
    same = await w.get("/v1/files/a", if_none_match='"one"')
    assert (same.status, same.body, same.cached) == (304, b"", "Hit")
    assert (await w.get("/v1/files/a", if_none_match='"other"')).body == BODY
    assert (await w.get("/v1/files/a", range="bytes=0-1", if_range='"old"')).status == 200
    assert len(w.east.asked) == 1


@in_world
async def test_a_condition_fills_the_cache_and_a_part_does_not(w: World) -> None:
    assert (await w.get("/v1/files/a", range="bytes=0-9")).body == BODY[:10]
    assert len(w.edge.cache) == 0
    first = await w.get("/v1/files/a", if_none_match='"one"')
    assert (first.status, first.region) == (304, "us-east-1")
    assert (await w.get("/v1/files/a")).cached == "Hit"
    assert w.east.asked == ["GET /v1/files/a"] * 2


@in_world
async def test_variants_differ_by_width_and_lists_are_never_kept(w: World) -> None:
    w.east.objects |= {"/v1/images/p?w=160": ('"s"', b"small"), "/v1/files?limit=2": ('"l"', b"[]")}
    for _ in range(2):
        assert (await w.get("/v1/images/p?w=160")).body == b"small"
        assert (await w.get("/v1/images/p?w=320")).status == 404
        assert (await w.get("/v1/files?limit=2")).cached == "Miss"
    assert w.east.asked.count("GET /v1/images/p?w=160") == 1
    assert w.east.asked.count("GET /v1/images/p?w=320") == 2
    assert w.east.asked.count("GET /v1/files?limit=2") == 2


@in_world
async def test_what_is_old_is_asked_for_again_and_the_origin_serves_it(w: World) -> None:
    await w.get("/v1/files/a")
    w.now_s = cache.DEFAULT_TTL_S + 1
    again = await w.get("/v1/files/a")
    assert (again.status, again.cached, again.region) == (200, "RefreshHit", "us-east-1")
    assert again.body == BODY
    assert (await w.get("/v1/files/a")).cached == "Hit"
    w.east.objects["/v1/files/a"] = ('"two"', b"new")
    w.now_s *= 2
    assert (await w.get("/v1/files/a")).body == b"new"


@in_world
async def test_the_origin_says_how_long(w: World) -> None:
    for said in ("no-store", "private, max-age=60", "max-age=0", "no-cache"):
        w.east.extra = f"cache-control: {said}\r\n"
        await w.get("/v1/files/a")
        assert (await w.get("/v1/files/a")).cached == "Miss", said
    w.east.extra = "cache-control: public, max-age=10\r\n"
    await w.get("/v1/files/a")
    assert (await w.get("/v1/files/a")).cached == "Hit"
    w.now_s = 11
    assert (await w.get("/v1/files/a")).cached == "RefreshHit"


@in_world
async def test_a_write_through_the_edge_drops_the_file_and_its_images(w: World) -> None:
    w.east.objects["/v1/images/a?w=160"] = ('"v"', b"variant")
    await w.get("/v1/files/a")
    await w.get("/v1/images/a?w=160")
    assert (await w.ask("PUT", "/v1/files/a", GOOD, b"changed")).status == 201
    assert (await w.get("/v1/files/a")).body == b"changed"
    assert (await w.get("/v1/images/a?w=160")).cached == "Miss"
    assert (await w.ask("DELETE", "/v1/files/a", GOOD)).status == 204
    assert (await w.get("/v1/files/a")).status == 404


@in_world
async def test_what_was_fetched_while_it_was_being_changed_is_not_kept(w: World) -> None:
    w.east.hold = asyncio.Event()
    reading = asyncio.create_task(w.get("/v1/files/a"))
    while not w.east.asked:
        await asyncio.sleep(0.01)
    writing = asyncio.create_task(w.ask("PUT", "/v1/files/a", GOOD, b"changed"))
    while len(w.east.asked) < 2:
        await asyncio.sleep(0.01)
    w.east.hold.set()
    assert (await reading).status == 200
    assert (await writing).status == 201
    assert (await w.get("/v1/files/a")).body == b"changed"


@in_world
async def test_many_who_want_the_same_make_one_request_to_the_origin(w: World) -> None:
    w.east.objects["/v1/files/b"] = ('"b"', b"b")
    await w.get("/v1/files/a")  # the token is known from here on
    w.east.hold = asyncio.Event()
    asking = [asyncio.create_task(w.get("/v1/files/b")) for _ in range(5)]
    while len(w.east.asked) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    w.east.hold.set()
    replies = await asyncio.gather(*asking)
    assert [r.body for r in replies] == [b"b"] * 5
    # As many are said to be the region's as it has counted.
    assert sorted(r.region for r in replies) == ["edge"] * 4 + ["us-east-1"]
    assert w.east.asked.count("GET /v1/files/b") == 1


def test_the_cache_is_bounded_and_forgets_what_was_not_used() -> None:
    def item(n: int) -> Cached:
        found = cache.cached({b"etag": b'"%d"' % n}, bytes(9000), 0.0)
        assert found is not None
        return found

    kept = Cache(capacity_bytes=50_000)
    for n in range(4):
        kept.put(b"/v1/files/%d" % n, item(n))
    assert kept.get(b"/v1/files/0") is not None
    for n in range(4, 7):
        kept.put(b"/v1/files/%d" % n, item(n))
    assert kept.size_bytes <= kept.capacity_bytes
    assert kept.get(b"/v1/files/0") is not None
    assert kept.get(b"/v1/files/1") is None
    kept.put(b"/v1/files/0", item(9))
    for n in range(7):
        kept.drop(b"/v1/files/%d" % n)
    assert (kept.size_bytes, len(kept)) == (0, 0)
    assert cache.cached({b"etag": b'"x"'}, bytes(cache.OBJECT_MAX_BYTES + 1), 0.0) is None
    assert cache.cached({b"etag": b'"x"', b"vary": b"cookie"}, b"", 0.0) is None
    assert cache.cached({}, b"", 0.0) is None


# ---- whom it is given to --------------------------------------------------------------------


@in_world
async def test_nothing_is_given_to_who_has_no_token_the_origin_accepts(w: World) -> None:
    await w.get("/v1/files/a")
    for headers in ({}, {"authorization": "Bearer bad"}, {"authorization": "Bearer good2"}):
        for _ in range(2):
            refused = await w.ask("GET", "/v1/files/a", headers)
            assert (refused.status, refused.region) == (401, "us-east-1")
            assert BODY not in refused.body
    assert (await w.get("/v1/files/a")).cached == "Hit"


@in_world
async def test_a_token_is_shown_to_the_origin_again_and_then_no_more_good(w: World) -> None:
    await w.get("/v1/files/a")
    w.east.extra = "cache-control: max-age=10000\r\n"
    w.east.objects["/v1/files/a"] = ('"two"', BODY)
    await w.ask("PUT", "/v1/files/a", GOOD, BODY)
    await w.get("/v1/files/a")
    asked = len(w.east.asked)
    w.now_s = cache.TOKEN_FRESH_S + 1
    assert (await w.get("/v1/files/a")).cached == "RefreshHit"
    assert len(w.east.asked) == asked + 1
    w.now_s = 2 * w.now_s
    w.east.status = 401
    assert (await w.get("/v1/files/a")).status == 401
    w.east.status = 503
    assert (await w.get("/v1/files/a")).status == 503


def test_tokens_are_bounded() -> None:
    tokens = Tokens()
    for n in range(cache.MAX_TOKENS + 10):
        tokens.accept(b"%d" % n, 0.0)
    assert tokens.known(b"%d" % (cache.MAX_TOKENS + 9), 1.0)
    assert not tokens.known(b"0", 1.0)
    assert not tokens.known(b"%d" % (cache.MAX_TOKENS + 9), cache.TOKEN_KNOWN_S + 1)


# ---- when the origin is lost ----------------------------------------------------------------


@in_world
async def test_without_an_origin_hits_go_on_and_the_rest_fails_by_name(w: World) -> None:
    await w.get("/v1/files/a")
    w.east.stop()
    w.now_s = cache.DEFAULT_TTL_S + 1  # old by now, and its token due as well
    kept = await w.get("/v1/files/a")
    assert (kept.status, kept.body, kept.region) == (200, BODY, "edge")
    refused = await w.get("/v1/files/b")
    assert (refused.status, refused.cached, refused.region) == (502, "Error", "edge")
    assert json.loads(refused.body)["code"] == "origin_unreachable"
    assert (await w.ask("GET", "/v1/files/a", {"authorization": "Bearer x"})).status == 502


@in_world
async def test_an_origin_that_says_nothing_is_given_up_in_time(w: World) -> None:
    await w.get("/v1/files/a")
    w.east.hold = asyncio.Event()
    late = await w.get("/v1/files/b")
    assert (late.status, json.loads(late.body)["code"]) == (504, "origin_timeout")
    assert (await w.get("/v1/files/a")).status == 200
    assert b'edge_origin_errors_total{kind="late"} 1' in w.edge.metrics.render()


@in_world
async def test_it_follows_the_origins_name_to_the_other_region(w: World) -> None:
    assert (await w.get("/v1/files/a")).region == "us-east-1"
    w.west.objects["/v1/files/b"] = ('"b"', b"from the west")
    w.east.stop()
    w.at[:] = ["127.57.3.1"]
    for _ in range(60):
        reply = await w.get("/v1/files/b")
        if reply.status == 200:
            break
        await asyncio.sleep(0.05)
    assert (reply.region, reply.body) == ("us-west-2", b"from the west")


@in_world
async def test_more_than_it_can_carry_is_refused_at_once(w: World) -> None:
    w.edge.origin_max = 2
    w.east.hold = asyncio.Event()
    held = [asyncio.create_task(w.ask("DELETE", f"/v1/files/{n}", GOOD)) for n in range(2)]
    while len(w.east.asked) < 2:
        await asyncio.sleep(0.01)
    busy = await w.ask("DELETE", "/v1/files/9", GOOD)
    assert (busy.status, json.loads(busy.body)["code"]) == (503, "origin_busy")
    w.east.hold.set()
    assert [reply.status for reply in await asyncio.gather(*held)] == [204, 204]
    assert "DELETE /v1/files/9" not in w.east.asked


# ---- the protocol ---------------------------------------------------------------------------


@in_world
async def test_large_bodies_pass_through_whole_on_one_connection(w: World) -> None:
    reader, writer = await asyncio.open_connection(*w.address)
    large = bytes(range(256)) * 6000
    put = await exchange(reader, writer, "PUT", "/v1/files/big", GOOD, large)
    assert (put.status, put.region) == (201, "us-east-1")
    back = await exchange(reader, writer, "GET", "/v1/files/big", GOOD)
    assert back.body == large
    assert len(w.edge.cache) == 0  # too large to be kept
    assert (await exchange(reader, writer, "HEAD", "/v1/files/none", GOOD)).status == 404
    writer.close()


@in_world
async def test_a_head_that_comes_in_pieces_and_one_that_is_none(w: World) -> None:
    await w.get("/v1/files/a")
    reader, writer = await asyncio.open_connection(*w.address)
    for piece in (b"GET /v1/fi", b"les/a HTTP/1.1\r\nAuthor", b"ization: Bearer good\r\n\r\n"):
        writer.write(piece)
        await asyncio.sleep(0.02)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Hit from edge" in head
    assert await reader.readexactly(len(BODY)) == BODY
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    endless, writer = await asyncio.open_connection(*w.address)
    writer.write(b"PUT /v1/files/a HTTP/1.1\r\nx: " + b"y" * 40_000)
    assert (await endless.read()).startswith(b"HTTP/1.1 431 ")


@in_world
async def test_it_counts_what_became_of_requests(w: World) -> None:
    await w.get("/v1/files/a")
    for _ in range(3):
        await w.get("/v1/files/a")
    await w.ask("DELETE", "/v1/files/a", GOOD)
    text = w.edge.metrics.render().decode()
    assert 'edge_requests_total{result="hit",code="200"} 3' in text
    assert 'edge_requests_total{result="miss",code="200"} 1' in text
    assert 'edge_requests_total{result="pass",code="204"} 1' in text
    assert 'edge_request_duration_seconds_count{result="hit"} 3' in text
    assert "edge_cache_objects 0" in text


def test_the_program_serves_and_ends_when_told(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "harness.lab.edge", "--host", "127.57.0.41", "--port", "18080"]
    argv += ["--metrics-port", "19901", "--dns", "127.57.0.53:5353", "--origin", f"{HOST}:8080"]
    edge = proc.spawn(argv, log=tmp_path / "edge.log")
    try:

        async def metrics() -> bytes:
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.57.0.41", 19901)
                    break
                except OSError:
                    assert edge.poll() is None, (tmp_path / "edge.log").read_text()
                    await asyncio.sleep(0.05)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            return await reader.read()

        assert b"edge_requests_total" in asyncio.run(asyncio.wait_for(metrics(), 20))
        edge.terminate()
        assert edge.wait(10) == 0
    finally:
        if edge.poll() is None:
            edge.kill()
        assert isinstance(edge, subprocess.Popen)
