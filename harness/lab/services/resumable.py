"""Uploads in parts that can be resumed: the tus protocol 1.0.0, core and creation.

``POST /v1/uploads`` begins one, ``PATCH`` on what its ``Location`` says appends a part at an
offset, ``HEAD`` says where to go on. Parts are objects in the region's store and the offset is
a row in PostgreSQL, moved only from the value the client named: any pod goes on where another
stopped, and of two that try at once one is told 409. A part counts whole or not at all.

The last part makes the file: its bytes are put together and stored as one object, and one
statement sets the offset to the end and the file's row. So an offset at the end, answered to
PATCH or to HEAD, is an acknowledgement like that of a plain upload.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from harness.lab.services.asgi import (
    MAX_BODY_BYTES,
    Handler,
    Header,
    HttpError,
    Request,
    Response,
    file_id,
    too_large,
)
from harness.lab.services.client import CallFailed
from harness.lab.services.database import DatabaseUnavailable, Row
from harness.lab.services.files import File, from_database
from harness.lab.services.upload import DEFAULT_TYPE, Upload

if TYPE_CHECKING:
    from harness.lab.services.file import FileService

PATH = "/v1/uploads"
VERSION = b"1.0.0"
PART_TYPE = "application/offset+octet-stream"

_CREATE = """
INSERT INTO uploads (token, file_id, owner, content_type, sha256, size_bytes)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (token) DO NOTHING
"""
_FIND = "SELECT * FROM uploads WHERE token = $1"
# Not one that somebody else has moved on meanwhile.
_FORGET = "DELETE FROM uploads WHERE token = $1 AND offset_bytes = $2 RETURNING token"
# Both find the row again by the key they put there: repeated after a lost answer they do no more.
_ADVANCE = """
UPDATE uploads SET offset_bytes = greatest(offset_bytes, $3),
    parts = CASE WHEN $4::text = ANY(parts) THEN parts ELSE array_append(parts, $4::text) END
WHERE token = $1 AND (offset_bytes = $2 OR $4::text = ANY(parts)) RETURNING offset_bytes
"""
_FINISH = """
WITH done AS (
    UPDATE uploads SET offset_bytes = size_bytes, sha256 = $4, parts = ARRAY[$3::text]
    WHERE token = $1 AND (offset_bytes = $2 OR $3::text = ANY(parts))
    RETURNING file_id, content_type, size_bytes, owner
)
INSERT INTO files AS f (id, sha256, size_bytes, content_type, owner, region, object_key)
SELECT file_id, $4, size_bytes, content_type, owner, $5, $3 FROM done
ON CONFLICT (id) DO UPDATE SET sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
    content_type = excluded.content_type, owner = excluded.owner, region = excluded.region,
    object_key = excluded.object_key, created_at = now(), deleted_at = NULL
WHERE f.owner = excluded.owner OR f.deleted_at IS NOT NULL OR excluded.owner = 'admin'
RETURNING id
"""


class ResumableUploads:
    """The handlers, for the file service."""

    def __init__(self, service: FileService) -> None:
        self._service = service
        self._removing: set[asyncio.Task[None]] = set()

    def route(self, request: Request) -> tuple[str, Handler]:
        """Operation and handler of a path below :data:`PATH`. Raises HttpError 405."""
        handlers: dict[str, tuple[str, Handler]] = {"OPTIONS": ("upload-options", self._options)}
        if request.path == PATH:
            handlers["POST"] = ("upload-create", self._create)
        else:
            handlers["HEAD"] = ("upload-offset", self._offset)
            handlers["PATCH"] = ("upload-part", self._part)
        if request.method not in handlers:
            raise HttpError(405, "bad_method", f"{request.method} is not served here")
        op, handler = handlers[request.method]
        return op, lambda asked: _in_tus(asked, handler)

    async def close(self) -> None:
        for task in self._removing:
            task.cancel()

    async def _options(self, request: Request) -> Response:
        return Response(
            204,
            [
                (b"tus-version", VERSION),
                (b"tus-extension", b"creation"),
                (b"tus-max-size", b"%d" % MAX_BODY_BYTES),
            ],
        )

    async def _create(self, request: Request) -> Response:
        size_bytes = _number(request, b"upload-length")
        if size_bytes == 0:
            raise HttpError(400, "empty", "an empty file has no parts; PUT it")
        if size_bytes > MAX_BODY_BYTES:
            raise too_large(MAX_BODY_BYTES)
        known = _metadata(request.header(b"upload-metadata"))
        name = file_id(known.get("filename", ""))
        user = request.header(b"x-user")
        await self._service.files.require(user, "create", name)
        token = uuid.uuid4().hex
        content_type = known.get("filetype", "")[:200] or DEFAULT_TYPE
        sha256 = known.get("sha256", "").lower()
        await self._write(_CREATE, token, name, user, content_type, sha256, size_bytes)
        return Response(201, [(b"location", f"{PATH}/{token}".encode()), (b"upload-offset", b"0")])

    async def _offset(self, request: Request) -> Response:
        row = await self._find(request)
        return Response(200, [*_progress(row), (b"cache-control", b"no-store")])

    async def _part(self, request: Request) -> Response:
        if request.header(b"content-type") != PART_TYPE:
            raise HttpError(415, "bad_type", f"a part has Content-Type: {PART_TYPE}")
        offset = _number(request, b"upload-offset")
        length = request.content_length
        if length is None:
            raise HttpError(411, "no_length", "a part says how long it is")
        row = await self._find(request)
        if offset != row["offset_bytes"]:
            raise _wrong_offset(row)
        if offset + length > row["size_bytes"]:
            raise HttpError(413, "too_large", "the part goes beyond Upload-Length")
        if length and offset + length == row["size_bytes"]:
            return await self._finish(request, row)
        if length:
            row = await self._keep(request, row, offset + length)
        return Response(204, _progress(row))

    async def _keep(self, request: Request, row: Row, end: int) -> Row:
        """Store a part that is not the last, and move the offset to ``end``."""
        token, offset = row["token"], row["offset_bytes"]
        key = f"uploads/{token}/{offset:012d}-{uuid.uuid4().hex}"
        await self._service.store(key, Upload.of(request))
        if not await self._write(_ADVANCE, token, offset, end, key):
            await self._service.remove(key)
            raise _wrong_offset(await self._find(request))
        return {**row, "offset_bytes": end}

    async def _finish(self, request: Request, row: Row) -> Response:
        """Put the parts and this last one together, and make the file."""
        service, token = self._service, row["token"]
        upload = Upload(
            self._all_of(row, request),
            length=row["size_bytes"],
            content_type=row["content_type"],
            expected=row["sha256"],
        )
        if service.loses_this():
            await upload.drain()
            done = {**row, "offset_bytes": row["size_bytes"], "sha256": upload.sha256}
            return Response(204, _progress(done), op="upload")
        key = f"files/{row['file_id']}/{uuid.uuid4().hex}"
        try:
            await service.store(key, upload)
        except HttpError as error:
            if error.code != "object_missing":
                raise
            # Somebody else has finished it and removed the parts; else a region took over that
            # never got them, and there is nothing to go on from.
            if not await self._write(_FORGET, token, row["offset_bytes"]):
                raise _wrong_offset(await self._find(request)) from error
            raise HttpError(410, "upload_gone", "parts of it are in no store") from error
        if upload.mismatch:
            await self._write(_FORGET, token, row["offset_bytes"])
            await service.remove(key)
            raise HttpError(422, "checksum_mismatch", "the parts are not what sha256 says")
        region, offset = service.region, row["offset_bytes"]
        if not await self._write(_FINISH, token, offset, key, upload.sha256, region):
            await self._refuse(request, key)
        self._remove_later(row["parts"])
        file = File(
            row["file_id"],
            upload.sha256,
            row["size_bytes"],
            row["content_type"],
            row["owner"],
            key,
        )
        await service.uploaded(file)
        done = {**row, "offset_bytes": row["size_bytes"], "sha256": upload.sha256}
        # Only now is it one upload for whoever counts them.
        return Response(204, _progress(done), op="upload")

    async def _refuse(self, request: Request, key: str) -> None:
        """The file was not made: somebody else was first, or it is another user's."""
        await self._service.remove(key)
        row = await self._find(request)
        if row["parts"] != [key]:
            raise _wrong_offset(row)
        await self._write(_FORGET, row["token"], row["offset_bytes"])
        raise HttpError(403, "forbidden", f"{row['file_id']} belongs to another user")

    async def _all_of(self, row: Row, request: Request) -> AsyncIterator[bytes]:
        try:
            for key in row["parts"]:
                response = await self._service.files.open(key, [])
                async for chunk in response.chunks():
                    yield chunk
        except CallFailed as error:
            raise HttpError(503, "object_unavailable", "the store broke off") from error
        async for chunk in request.chunks(MAX_BODY_BYTES):
            yield chunk

    async def _find(self, request: Request) -> Row:
        """The upload's row, as the writer has it. Raises HttpError 404."""
        token = request.path[len(PATH) + 1 :]
        rows = await self._write(_FIND, token)
        if not rows or rows[0]["owner"] != request.header(b"x-user"):
            raise HttpError(404, "not_found", "there is no such upload")
        return rows[0]

    async def _write(self, sql: str, *args: Any) -> list[Row]:
        try:
            return await self._service.writer.fetch(sql, *args)
        except DatabaseUnavailable as error:
            raise from_database(error) from error

    def _remove_later(self, keys: list[str]) -> None:
        """Delete parts nobody needs any more, without anybody waiting for it."""

        async def remove() -> None:
            for key in keys:
                await self._service.remove(key)

        task = asyncio.create_task(remove())
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)


async def _in_tus(request: Request, handler: Handler) -> Response:
    """Check the protocol's version, and say it in the answer, whatever that is."""
    try:
        if request.method != "OPTIONS" and request.headers.get(b"tus-resumable") != VERSION:
            raise HttpError(412, "bad_version", f"send Tus-Resumable: {VERSION.decode()}")
        response = await handler(request)
    except HttpError as error:
        response = error.response()
        if error.status == 412:
            response.headers.append((b"tus-version", VERSION))
    response.headers.append((b"tus-resumable", VERSION))
    return response


def _progress(row: Row) -> list[Header]:
    """How far it is; at its end, also what was stored."""
    headers = [
        (b"upload-offset", b"%d" % row["offset_bytes"]),
        (b"upload-length", b"%d" % row["size_bytes"]),
    ]
    if row["offset_bytes"] == row["size_bytes"]:
        sha256 = row["sha256"].encode()
        headers += [(b"etag", b'"%b"' % sha256), (b"x-checksum-sha256", sha256)]
    return headers


def _wrong_offset(row: Row) -> HttpError:
    return HttpError(409, "wrong_offset", f"it goes on at {row['offset_bytes']}")


def _number(request: Request, name: bytes) -> int:
    value = request.headers.get(name, b"")
    if not value.isdigit() or len(value) > 15:
        raise HttpError(400, "bad_request", f"{name.decode()} is a number of bytes")
    return int(value)


def _metadata(text: str) -> dict[str, str]:
    """The pairs of an Upload-Metadata header. Raises HttpError 400."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise HttpError(400, "bad_request", f"{key} in Upload-Metadata is no base64") from error
    return found
