"""The object store of one region: an S3-like server with replication one can see and set.

An object is on disk before its PUT is answered (temporary file, fdatasync, rename).
Replication to the peer region is asynchronous, after a lag that can be set: a queue
on disk holds *keys* with the instant they changed, and what is sent is the state the
key has then, so the queue is small, survives a crash, and a key that changes twice
ends right. What the peer replicates here is not queued again.

Besides S3: ``GET /_store/replication`` → ``{"pending", "lag_s", "oldest_age_s",
"paused"}``, ``PUT`` it with ``{"lag_s"?, "paused"?}``; ``/_store/objects/KEY`` is what
peers write to; ``/health``, ``/metrics``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import sqlite3
import sys
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from harness.clock import Clock, SystemClock
from harness.lab.services.asgi import (
    App,
    Handler,
    Header,
    HttpError,
    Request,
    Response,
    json_response,
)
from harness.lab.services.client import CallFailed, HttpClient
from harness.lab.services.dns import Resolver
from harness.lab.services.file import matches
from harness.lab.services.metrics import Metrics

log = logging.getLogger("store")

#: Objects up to this size are answered in one piece, larger ones in pieces of it.
PIECE_BYTES = 256 * 1024
MAX_OBJECT_BYTES = 64 * 1024 * 1024
#: Objects sent to the peer at once.
BATCH = 8
RETRY_PAUSE_S = 0.5
REPLICATE_TIMEOUT_S = 3.0
#: Small, so that a stopped store soon takes no more connections, like a host that is gone.
BACKLOG = 64
_XML = (b"content-type", b"application/xml")
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_MAX_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known about one object. ``etag`` is the MD5 of its bytes, without quotes."""

    size_bytes: int
    etag: str
    modified_s: float
    content_type: str


class Disk:
    """Objects as files: the bytes, then a JSON footer, then the footer's length (8 bytes)."""

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._temporary = root / "tmp"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)
        for left in self._temporary.iterdir():
            left.unlink()
        self._index: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._numbers = 0
        self._scan()

    def __len__(self) -> int:
        return len(self._index)

    def get(self, key: str) -> Stored | None:
        return self._index.get(key)

    def keys(self, prefix: str, after: str) -> list[str]:
        """Keys that start with ``prefix`` and sort after ``after``, in order."""
        start = bisect_left(self._keys, prefix)
        if after:
            start = max(start, bisect_right(self._keys, after))
        end = bisect_right(self._keys, prefix + "\U0010ffff")
        return self._keys[start:end]

    def path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._objects / digest[:2] / digest

    def temporary(self) -> Path:
        self._numbers += 1
        return self._temporary / str(self._numbers)

    def keep(self, key: str, stored: Stored) -> None:
        """Make an object visible whose file is in place."""
        if key not in self._index:
            self._keys.insert(bisect_left(self._keys, key), key)
        self._index[key] = stored

    def delete(self, key: str) -> bool:
        if self._index.pop(key, None) is None:
            return False
        del self._keys[bisect_left(self._keys, key)]
        self.path(key).unlink(missing_ok=True)
        return True

    def _scan(self) -> None:
        for path in self._objects.glob("*/*"):
            with path.open("rb") as file:
                file.seek(-8, os.SEEK_END)
                size = int.from_bytes(file.read(8), "big")
                file.seek(-8 - size, os.SEEK_END)
                footer = json.loads(file.read(size))
            key = footer.pop("key")
            self._index[key] = Stored(**footer)
        self._keys = sorted(self._index)


def footer_of(key: str, stored: Stored) -> bytes:
    data = json.dumps({"key": key, **asdict(stored)}).encode()
    return data + len(data).to_bytes(8, "big")


class Queue:
    """Keys to replicate and when they changed, on disk; the last change of a key counts."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        # Survives the death of the process; a crash of the machine ends the lab anyway.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS queue "
            "(seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, t REAL)"
        )
        self.pending: int = self._db.execute("SELECT count(*) FROM queue").fetchone()[0]

    def add(self, key: str, t: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO queue (key, t) VALUES (?, ?)", (key, t))
        self._count()

    def due(self, until_t: float, limit: int) -> list[tuple[int, str, float]]:
        """``(seq, key, changed t)`` of the oldest keys changed up to ``until_t``."""
        sql = "SELECT seq, key, t FROM queue WHERE t <= ? ORDER BY seq LIMIT ?"
        return self._db.execute(sql, (until_t, limit)).fetchall()

    def done(self, seq: int) -> None:
        """Forget an entry, unless the key changed again since (it then has a new number)."""
        self._db.execute("DELETE FROM queue WHERE seq = ?", (seq,))
        self._count()

    def oldest_t(self) -> float | None:
        row = self._db.execute("SELECT t FROM queue ORDER BY seq LIMIT 1").fetchone()
        return row[0] if row else None

    def _count(self) -> None:
        self.pending = self._db.execute("SELECT count(*) FROM queue").fetchone()[0]

    def close(self) -> None:
        self._db.close()


class Replicator:
    """Sends due keys to the peer, oldest first, and tries for as long as it takes."""

    def __init__(
        self, disk: Disk, queue: Queue, peer: str, region: str, lag_s: float, clock: Clock
    ) -> None:
        parts = urlsplit(peer)
        self._host, self._port = parts.hostname or "", parts.port or 9000
        self._disk = disk
        self._queue = queue
        self._region = region
        self._clock = clock
        self.lag_s = lag_s
        self.paused = False
        self.last_lag_s = 0.0
        self.replicated = 0
        self.failures = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # The peer is given by address: no DNS server is ever asked.
        self._client = HttpClient(Resolver(("127.0.0.1", 53)))

    def start(self) -> None:
        if self._host:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
        await self._client.close()

    def note(self, key: str) -> None:
        """``key`` is about to change here; call before the change can be seen."""
        if self._host:
            self._queue.add(key, self._clock.wall_s())

    def wake(self) -> None:
        self._changed.set()

    def status(self) -> dict[str, object]:
        oldest = self._queue.oldest_t()
        age_s = max(0.0, self._clock.wall_s() - oldest) if oldest is not None else 0.0
        return {
            "pending": self._queue.pending,
            "lag_s": self.lag_s,
            "oldest_age_s": round(age_s, 3),
            "paused": self.paused,
            "last_lag_s": round(self.last_lag_s, 3),
            "replicated": self.replicated,
            "failures": self.failures,
        }

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                wait_s = await self._turn()
            except (OSError, sqlite3.Error):
                log.exception("replication")
                wait_s = RETRY_PAUSE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _turn(self) -> float | None:
        """Send what is due; returns how long to wait unless woken (None: until woken)."""
        while not self.paused:
            now = self._clock.wall_s()
            batch = self._queue.due(now - self.lag_s, BATCH)
            if not batch:
                oldest = self._queue.oldest_t()
                return None if oldest is None else max(0.005, oldest + self.lag_s - now)
            sent = await asyncio.gather(*(self._send(key) for _, key, _ in batch))
            for (seq, _, t), ok in zip(batch, sent, strict=True):
                if ok:
                    self._queue.done(seq)
                    self.replicated += 1
                    self.last_lag_s = self._clock.wall_s() - t
            if not all(sent):
                self.failures += sent.count(False)
                await asyncio.sleep(RETRY_PAUSE_S)
        return None

    async def _send(self, key: str) -> bool:
        """Make the peer's copy what the key is here now."""
        target = f"/_store/objects/{quote(key)}"
        headers: list[Header] = [(b"x-store-replica", self._region.encode())]
        stored = self._disk.get(key)
        try:
            if stored is None:
                method, body = "DELETE", b""
            else:
                method = "PUT"
                headers += [
                    (b"content-type", stored.content_type.encode()),
                    (b"x-store-modified", str(stored.modified_s).encode()),
                ]
                body = await asyncio.to_thread(self._bytes, key, stored)
            response = await self._client.request(
                method,
                self._host,
                self._port,
                target,
                headers=headers,
                body=body,
                total_s=REPLICATE_TIMEOUT_S,
                repeatable=True,
            )
            await response.read()
        except FileNotFoundError:
            return False  # deleted just now: its entry comes again, with the new state
        except CallFailed as error:
            log.info("peer: %s", error)
            return False
        return response.status in (200, 204)

    def _bytes(self, key: str, stored: Stored) -> bytes:
        with self._disk.path(key).open("rb") as file:
            return file.read(stored.size_bytes)


def s3_error(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
    body += f"<Message>{escape(message)}</Message></Error>"
    return Response(status, [_XML], body.encode())


class S3Error(HttpError):
    """An error worded as S3 does."""

    def response(self) -> Response:
        return s3_error(self.status, self.code, self.message)


def byte_range(text: str, size_bytes: int) -> tuple[int, int] | None:
    """First and one-past-last byte of a single ``bytes=`` range; None to send everything.

    Raises S3Error 416 when the range lies outside.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start = int(first)
        end = min(size_bytes, int(last) + 1) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= size_bytes or start >= end:
        raise S3Error(416, "InvalidRange", "the range lies outside the object")
    return start, end


class AwsChunks:
    """Decodes ``aws-chunked`` bodies: ``size[;extension]CRLF bytes CRLF … 0 CRLF trailers``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = -1  # bytes of the current chunk still to come; -1: a size line is next
        self.trailers: dict[str, str] = {}
        self._trailing = False

    def feed(self, data: bytes) -> bytes:
        """Payload bytes that are complete so far. Raises S3Error 400 on nonsense."""
        self._buffer += data
        out = bytearray()
        while True:
            if self._left > 0:
                taken = self._buffer[: self._left]
                del self._buffer[: len(taken)]
                out += taken
                self._left -= len(taken)
                if self._left:
                    return bytes(out)
            line_end = self._buffer.find(b"\r\n")
            if line_end < 0:
                return bytes(out)
            line = bytes(self._buffer[:line_end])
            del self._buffer[: line_end + 2]
            self._line(line)

    def _line(self, line: bytes) -> None:
        if self._trailing:
            name, _, value = line.decode("latin-1").partition(":")
            if name:
                self.trailers[name.strip().lower()] = value.strip()
        elif self._left == 0:
            self._left = -1  # the line end after a chunk's bytes
        else:
            try:
                self._left = int(line.split(b";")[0], 16)
            except ValueError as error:
                raise S3Error(400, "IncompleteBody", "bad aws-chunked size") from error
            if self._left == 0:
                self._trailing = True

    @property
    def complete(self) -> bool:
        return self._trailing


class Store(App):
    """One bucket over HTTP."""

    name = "store"

    def __init__(
        self,
        *,
        region: str,
        bucket: str,
        root: Path,
        peer: str,
        lag_s: float,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics({"region": region})
        super().__init__(metrics, [(b"x-amz-bucket-region", region.encode())])
        self._region = region
        self._bucket = bucket
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True)
        self._disk = Disk(root)
        self._queue = Queue(root / "replication.db")
        self.replicator = Replicator(self._disk, self._queue, peer, region, lag_s, clock)
        self._threads = ThreadPoolExecutor(4, "disk")
        self._changing: dict[str, asyncio.Lock] = {}
        replicator = self.replicator
        gauges: dict[str, Callable[[], float]] = {
            "store_objects": lambda: len(self._disk),
            "store_replication_pending": lambda: self._queue.pending,
            "store_replication_lag_seconds": lambda: float(
                str(replicator.status()["oldest_age_s"])
            ),
            "store_replication_last_lag_seconds": lambda: replicator.last_lag_s,
            "store_replication_lag_setting_seconds": lambda: replicator.lag_s,
            "store_replication_paused": lambda: float(replicator.paused),
            "store_replicated_total": lambda: replicator.replicated,
            "store_replication_failures_total": lambda: replicator.failures,
        }
        for gauge, read in gauges.items():
            self.metrics.gauge(gauge, read)

    async def startup(self) -> None:
        self.replicator.start()

    async def shutdown(self) -> None:
        await self.replicator.close()
        self._threads.shutdown(wait=True)
        self._queue.close()

    def route(self, request: Request) -> tuple[str, Handler]:
        path = request.path
        if path == "/_store/replication":
            return "replication", self._replication
        if path.startswith("/_store/objects/"):
            return "replica", self._replica
        bucket, _, key = path.removeprefix("/").partition("/")
        if not bucket:
            return "list_buckets", self._list_buckets
        if bucket != self._bucket:
            raise S3Error(404, "NoSuchBucket", f"there is no bucket {bucket} here")
        if key:
            return request.method.lower(), self._object
        return "bucket", self._bucket_call

    # replication
    async def _replication(self, request: Request) -> Response:
        if request.method == "PUT":
            asked = await request.json()
            lag_s, paused = asked.get("lag_s"), asked.get("paused")
            number = isinstance(lag_s, int | float) and not isinstance(lag_s, bool)
            if lag_s is not None and not (number and 0 <= lag_s <= 3600):
                raise HttpError(400, "bad_request", "lag_s is a number from 0 to 3600")
            if paused is not None and not isinstance(paused, bool):
                raise HttpError(400, "bad_request", "paused is true or false")
            if lag_s is not None:
                self.replicator.lag_s = float(lag_s)
            if paused is not None:
                self.replicator.paused = paused
            self.replicator.wake()
        return json_response(200, self.replicator.status())

    async def _replica(self, request: Request) -> Response:
        key = request.path.removeprefix("/_store/objects/")
        if request.method == "PUT":
            await self._put(request, key, replica=True)
            return Response(200)
        if request.method == "DELETE":
            async with self._lock(key):
                self._disk.delete(key)
            return Response(204)
        raise S3Error(405, "MethodNotAllowed", "peers write and delete here")

    # buckets
    async def _list_buckets(self, request: Request) -> Response:
        body = f"<ListAllMyBucketsResult {_NAMESPACE}><Buckets><Bucket><Name>{self._bucket}</Name>"
        body += f"<CreationDate>{_instant(0)}</CreationDate></Bucket></Buckets>"
        body += "</ListAllMyBucketsResult>"
        return Response(200, [_XML], body.encode())

    async def _bucket_call(self, request: Request) -> Response:
        query = request.query
        if request.method == "POST" and "delete" in query:
            return await self._delete_many(request)
        if request.method in ("HEAD", "PUT"):
            return Response(200)
        if request.method != "GET":
            raise S3Error(405, "MethodNotAllowed", f"{request.method} is not served on a bucket")
        if "location" in query:
            body = f"<LocationConstraint {_NAMESPACE}>{self._region}</LocationConstraint>"
            return Response(200, [_XML], body.encode())
        if "versioning" in query:
            return Response(200, [_XML], f"<VersioningConfiguration {_NAMESPACE}/>".encode())
        return Response(200, [_XML], self._listing(query).encode())

    def _listing(self, query: dict[str, str]) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        asked = query.get("max-keys", "")
        limit = min(int(asked), _MAX_KEYS) if asked.isdigit() else _MAX_KEYS
        encode: Callable[[str], str] = quote if query.get("encoding-type") == "url" else escape
        contents: list[str] = []
        groups: list[str] = []
        last, truncated = "", False
        for key in self._disk.keys(prefix, after):
            group = _group(key, prefix, delimiter)
            if group and (groups[-1:] == [group] or after.startswith(group)):
                last = key
                continue
            if len(contents) + len(groups) >= limit:
                truncated = True
                break
            last = key
            if group:
                groups.append(group)
            else:
                contents.append(self._listed(key, encode))
        parts = [f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult {_NAMESPACE}>"]
        parts += [f"<Name>{self._bucket}</Name><Prefix>{encode(prefix)}</Prefix>"]
        parts += [f"<KeyCount>{len(contents) + len(groups)}</KeyCount><MaxKeys>{limit}</MaxKeys>"]
        parts += [f"<Delimiter>{encode(delimiter)}</Delimiter>"] if delimiter else []
        parts += ["<EncodingType>url</EncodingType>"] if encode is quote else []
        parts += [f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"]
        if truncated:
            parts += [f"<NextContinuationToken>{quote(last)}</NextContinuationToken>"]
        parts += contents
        parts += [f"<CommonPrefixes><Prefix>{encode(g)}</Prefix></CommonPrefixes>" for g in groups]
        return "".join([*parts, "</ListBucketResult>"])

    def _listed(self, key: str, encode: Callable[[str], str]) -> str:
        stored = self._disk.get(key)
        assert stored
        return (
            f"<Contents><Key>{encode(key)}</Key><LastModified>{_instant(stored.modified_s)}"
            f'</LastModified><ETag>"{stored.etag}"</ETag><Size>{stored.size_bytes}</Size>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    async def _delete_many(self, request: Request) -> Response:
        body = await _payload(request, AwsChunks())
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            raise S3Error(400, "MalformedXML", str(error)) from error
        deleted = []
        for node in root.iter():
            if node.tag.rpartition("}")[2] == "Key" and node.text:
                await self._delete(node.text)
                deleted.append(f"<Deleted><Key>{escape(node.text)}</Key></Deleted>")
        text = f"<DeleteResult {_NAMESPACE}>{''.join(deleted)}</DeleteResult>"
        return Response(200, [_XML], text.encode())

    # objects
    async def _object(self, request: Request) -> Response:
        key = request.path.removeprefix("/").partition("/")[2]
        if request.method == "PUT":
            stored = await self._put(request, key, replica=False)
            return Response(200, [(b"etag", f'"{stored.etag}"'.encode())])
        if request.method == "DELETE":
            await self._delete(key)
            return Response(204)
        if request.method in ("GET", "HEAD"):
            return await self._get(request, key)
        raise S3Error(405, "MethodNotAllowed", f"{request.method} is not served on an object")

    async def _delete(self, key: str) -> None:
        async with self._lock(key):
            if self._disk.get(key) is not None:
                self.replicator.note(key)
                self._disk.delete(key)
        self.replicator.wake()

    async def _get(self, request: Request, key: str) -> Response:
        stored = self._disk.get(key)
        if stored is None:
            raise S3Error(404, "NoSuchKey", f"there is no object {key}")
        etag = f'"{stored.etag}"'
        headers: list[Header] = [
            (b"etag", etag.encode()),
            (b"last-modified", formatdate(stored.modified_s, usegmt=True).encode()),
            (b"accept-ranges", b"bytes"),
        ]
        if matches(request.header(b"if-none-match"), etag):
            return Response(304, headers)
        headers.append((b"content-type", stored.content_type.encode()))
        start, end, status = 0, stored.size_bytes, 200
        try:
            asked = byte_range(request.header(b"range"), stored.size_bytes)
        except S3Error as error:
            answer = error.response()
            answer.headers.append((b"content-range", b"bytes */%d" % stored.size_bytes))
            return answer
        if asked:
            (start, end), status = asked, 206
            content_range = f"bytes {start}-{end - 1}/{stored.size_bytes}"
            headers.append((b"content-range", content_range.encode()))
        if request.method == "HEAD":
            return Response(status, [*headers, (b"content-length", b"%d" % (end - start))])
        try:
            file = self._disk.path(key).open("rb")
        except FileNotFoundError as error:
            raise S3Error(404, "NoSuchKey", f"there is no object {key}") from error
        file.seek(start)
        if end - start <= PIECE_BYTES:
            with file:
                return Response(status, headers, file.read(end - start))
        headers.append((b"content-length", b"%d" % (end - start)))
        return Response(status, headers, self._pieces(file, end - start))

    async def _pieces(self, file: object, left: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with contextlib.closing(file):  # type: ignore[type-var]
            while left > 0:
                read = file.read  # type: ignore[attr-defined]
                piece = await loop.run_in_executor(self._threads, read, min(left, PIECE_BYTES))
                if not piece:
                    raise OSError("the object's file is cut short")
                left -= len(piece)
                yield piece

    async def _put(self, request: Request, key: str, *, replica: bool) -> Stored:
        """Receive an object to disk and make it visible. Raises S3Error on a damaged body."""
        modified = request.header(b"x-store-modified") if replica else ""
        modified_s = float(modified) if modified else self._clock.wall_s()
        loop = asyncio.get_running_loop()
        temporary = self._disk.temporary()
        try:
            with temporary.open("wb") as file:
                stored = await self._receive(request, file.write, modified_s)
                file.write(footer_of(key, stored))
                file.flush()
                await loop.run_in_executor(self._threads, os.fdatasync, file.fileno())
            async with self._lock(key):
                if not replica:
                    self.replicator.note(key)
                path = self._disk.path(key)
                path.parent.mkdir(exist_ok=True)
                temporary.rename(path)
                self._disk.keep(key, stored)
        finally:
            temporary.unlink(missing_ok=True)
        self.replicator.wake()
        return stored

    async def _receive(
        self, request: Request, write: Callable[[bytes], int], modified_s: float
    ) -> Stored:
        decoder = AwsChunks() if _is_aws_chunked(request) else None
        md5, crc32, size = hashlib.md5(usedforsecurity=False), 0, 0
        async for chunk in request.chunks(MAX_OBJECT_BYTES):
            payload = decoder.feed(chunk) if decoder else chunk
            write(payload)
            md5.update(payload)
            crc32 = zlib.crc32(payload, crc32) if decoder else 0
            size += len(payload)
        _verify(request, decoder, crc32, size)
        content_type = request.header(b"content-type") or "binary/octet-stream"
        return Stored(size, md5.hexdigest(), modified_s, content_type)

    def _lock(self, key: str) -> asyncio.Lock:
        """One of a few locks, so that changes of one key happen one after another."""
        slot = f"{zlib.crc32(key.encode()) % 64}"
        return self._changing.setdefault(slot, asyncio.Lock())


def _is_aws_chunked(request: Request) -> bool:
    streaming = request.header(b"x-amz-content-sha256").startswith("STREAMING-")
    return streaming or "aws-chunked" in request.header(b"content-encoding")


def _verify(request: Request, decoder: AwsChunks | None, crc32: int, size: int) -> None:
    if decoder is None:
        return
    declared = request.header(b"x-amz-decoded-content-length")
    if not decoder.complete or (declared and int(declared) != size):
        raise S3Error(400, "IncompleteBody", "the body is not as long as it says")
    expected = decoder.trailers.get("x-amz-checksum-crc32", "")
    if expected and base64.b64decode(expected) != crc32.to_bytes(4, "big"):
        raise S3Error(400, "BadDigest", "the body does not match its CRC32")


async def _payload(request: Request, decoder: AwsChunks) -> bytes:
    body = await request.body(MAX_OBJECT_BYTES)
    return decoder.feed(body) if _is_aws_chunked(request) else body


def _group(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix the key is listed under, "" if it is listed itself."""
    if not delimiter:
        return ""
    head, found, _ = key[len(prefix) :].partition(delimiter)
    return prefix + head + found if found else ""


def _instant(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def main() -> None:
    """Serve one bucket until told to stop."""
    import uvicorn

    from harness.lab.services.listen import listening

    parser = argparse.ArgumentParser(prog="harness.lab.store")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--region", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--dir", type=Path, required=True, help="where objects are kept")
    parser.add_argument("--peer", default="", help="URL of the other region's store")
    parser.add_argument("--lag-s", type=float, default=0.2, help="replicate after this long")
    asked = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )

    async def run() -> None:
        store = Store(
            region=asked.region,
            bucket=asked.bucket,
            root=asked.dir,
            peer=asked.peer,
            lag_s=asked.lag_s,
            clock=SystemClock(),
        )
        config = listening(store, asked.host, asked.port, backlog=BACKLOG)
        await uvicorn.Server(config).serve()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()
