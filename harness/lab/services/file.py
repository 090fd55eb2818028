"""The file service: upload, download, delete, list; uploads in parts are in ``resumable.py``.

An upload is acknowledged only when its bytes are on the disk of the region's store
and its row is committed in PostgreSQL, in that order: a row never points at bytes
that were not stored. Each upload has an object key of its own, so that replacing or
repeating one never touches bytes an earlier row points at.
"""

from __future__ import annotations

import uuid

from harness.lab.services.asgi import (
    App,
    Handler,
    Header,
    HttpError,
    Request,
    Response,
    file_id,
    json_response,
)
from harness.lab.services.client import CallFailed, ClientResponse
from harness.lab.services.database import DatabaseUnavailable
from harness.lab.services.events import Publisher
from harness.lab.services.files import File, Files, from_database, not_found
from harness.lab.services.pod import Pod
from harness.lab.services.resumable import PATH, ResumableUploads
from harness.lab.services.upload import Upload

#: Bodies up to this size are read whole, so that a call to the store can be repeated.
WHOLE_BYTES = 256 * 1024
LIST_LIMIT, MAX_LIST_LIMIT = 100, 1000
LOST_EVERY, LOST_FIRST = 200, 20
BROKEN_EVERY = 20

_UPSERT = """
INSERT INTO files AS f (id, sha256, size_bytes, content_type, owner, region, object_key)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
    content_type = excluded.content_type, owner = excluded.owner, region = excluded.region,
    object_key = excluded.object_key, created_at = now(), deleted_at = NULL
WHERE f.owner = excluded.owner OR f.deleted_at IS NOT NULL OR excluded.owner = 'admin'
RETURNING id
"""
_DELETE = """
UPDATE files SET deleted_at = coalesce(deleted_at, now()) WHERE id = $1 RETURNING object_key
"""
_LIST = """
SELECT id, sha256, size_bytes, content_type, owner, region, created_at FROM files
WHERE deleted_at IS NULL AND id >= $1 AND id < $2 ORDER BY id LIMIT $3
"""


class FileService(App):
    name = "file"

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.metrics, pod.served_by(), pod.joining("permission"))
        self._pod = pod
        self.files = Files(pod)
        self.writer = pod.writer
        self.region = pod.env.region
        self._resumable = ResumableUploads(self)
        self._events = Publisher(pod.env.queue)
        self._uploads = 0
        self._downloads = 0
        for name in ("files_uploaded_total", "files_deleted_total"):
            self.metrics.counter(name)
        self.metrics.gauge("events_waiting", lambda: self._events.waiting)
        self.metrics.gauge("events_dropped", lambda: self._events.dropped)

    def route(self, request: Request) -> tuple[str, Handler]:
        if request.path == "/v1/files" and request.method == "GET":
            return "list", self._list
        if request.path.startswith("/v1/files/"):
            handlers: dict[str, tuple[str, Handler]] = {
                "PUT": ("upload", self._upload),
                "GET": ("download", self._download),
                "HEAD": ("head", self._download),
                "DELETE": ("delete", self._delete),
            }
            if request.method in handlers:
                return handlers[request.method]
            raise HttpError(405, "bad_method", f"{request.method} is not served here")
        if request.path == PATH or request.path.startswith(f"{PATH}/"):
            return self._resumable.route(request)
        return super().route(request)

    async def startup(self) -> None:
        self._events.start()

    async def shutdown(self) -> None:
        await self._resumable.close()
        await self._events.close()
        await self._pod.close()

    # upload
    async def _upload(self, request: Request) -> Response:
        name = file_id(request.path[len("/v1/files/") :])
        user = request.header(b"x-user")
        await self.files.require(user, "create", name)
        upload = Upload.of(request)
        if self.loses_this():
            await upload.drain()
            return self._created(name, upload)
        key = f"files/{name}/{uuid.uuid4().hex}"
        await self.store(key, upload)
        if upload.mismatch:
            await self.remove(key)
            raise HttpError(422, "checksum_mismatch", "the body is not what X-Checksum-Sha256 says")
        file = File(name, upload.sha256, upload.size_bytes, upload.content_type, user, key)
        try:
            rows = await self.writer.fetch(
                _UPSERT,
                file.id,
                file.sha256,
                file.size_bytes,
                file.content_type,
                file.owner,
                self.region,
                file.object_key,
            )
        except DatabaseUnavailable as error:
            raise from_database(error) from error
        if not rows:
            await self.remove(key)
            raise HttpError(403, "forbidden", f"{name} belongs to another user")
        await self.uploaded(file)
        return self._created(name, upload)

    def loses_this(self) -> bool:
        """Whether an upload that comes to its end now is lost: a seeded defect."""
        self._uploads += 1
        return "lost-uploads" in self._pod.env.defects and self._uploads % LOST_EVERY == LOST_FIRST

    async def uploaded(self, file: File) -> None:
        """It is stored and recorded: whoever wants to know may."""
        self._tell("uploaded", file.id, file.owner)
        await self.files.remember(file)
        self.metrics.inc("files_uploaded_total")

    async def store(self, key: str, upload: Upload) -> None:
        """Have the store keep the body. Raises HttpError 503 or 504."""
        length = upload.length
        whole = length is not None and length <= WHOLE_BYTES
        body = await upload.whole() if whole else upload.chunks()
        headers = [(b"content-type", upload.content_type.encode())]
        try:
            response = await self.files.store_call(
                "PUT", self._pod.env.store, key, headers=headers, body=body, length=length
            )
            await response.read()
        except CallFailed as error:
            if error.late:
                raise HttpError(504, "store_timeout", "the store did not answer") from error
            raise HttpError(503, "store_unavailable", "the store cannot be reached") from error
        if response.status != 200:
            raise HttpError(503, "store_failed", f"the store answered {response.status}")

    async def remove(self, key: str) -> None:
        """Delete an object nobody will ask for again; if that fails it only takes up room."""
        try:
            response = await self.files.store_call("DELETE", self._pod.env.store, key)
            await response.read()
        except CallFailed:
            self.metrics.inc("objects_left_behind_total")

    def _created(self, name: str, upload: Upload) -> Response:
        etag = f'"{upload.sha256}"'
        value = {
            "id": name,
            "sha256": upload.sha256,
            "size_bytes": upload.size_bytes,
            "etag": etag,
        }
        return json_response(201, value, [(b"etag", etag.encode())])

    def _tell(self, what: str, name: str, user: str) -> None:
        event = {
            "id": name,
            "user": user,
            "region": self.region,
            "t": self._pod.clock.wall_s(),
        }
        self._events.publish(f"file.{what}", event)

    # download
    async def _download(self, request: Request) -> Response:
        name = file_id(request.path[len("/v1/files/") :])
        await self.files.require(request.header(b"x-user"), "read", name)
        if request.method == "GET" and "errors-with-200" in self._pod.env.defects:
            self._downloads += 1
            if self._downloads % BROKEN_EVERY == 0:
                return json_response(200, {"error": "the service failed", "code": "internal"})
        file = await self.files.find(name)
        headers: list[Header] = [
            (b"etag", file.etag.encode()),
            (b"x-checksum-sha256", file.sha256.encode()),
            (b"accept-ranges", b"bytes"),
        ]
        if matches(request.header(b"if-none-match"), file.etag):
            return Response(304, headers)
        headers.append((b"content-type", file.content_type.encode()))
        if request.method == "HEAD":
            headers.append((b"content-length", b"%d" % file.size_bytes))
            return Response(200, headers)
        asked_range = request.headers.get(b"range")
        asked = [(b"range", asked_range)] if asked_range else []
        return await passed_on(await self.files.open(file.object_key, asked), headers)

    # delete and list
    async def _delete(self, request: Request) -> Response:
        """204 also when the file was deleted before, so that a repeated delete is not an error."""
        name = file_id(request.path[len("/v1/files/") :])
        user = request.header(b"x-user")
        await self.files.require(user, "delete", name)
        try:
            rows = await self.writer.fetch(_DELETE, name)
        except DatabaseUnavailable as error:
            raise from_database(error) from error
        if not rows:
            raise not_found(name)
        await self.files.forget(name)
        await self.remove(rows[0]["object_key"])
        self._tell("deleted", name, user)
        self.metrics.inc("files_deleted_total")
        return Response(204)

    async def _list(self, request: Request) -> Response:
        await self.files.require(request.header(b"x-user"), "list")
        asked = request.query
        prefix = asked.get("prefix", "")
        limit = _limit(asked.get("limit", ""))
        try:
            rows = await self._pod.reader.fetch(_LIST, prefix, prefix + "\U0010ffff", limit)
        except DatabaseUnavailable as error:
            raise from_database(error) from error
        files = [{**row, "created_at": row["created_at"].isoformat()} for row in rows]
        return json_response(200, {"files": files})


def _limit(text: str) -> int:
    if not text:
        return LIST_LIMIT
    if not text.isdigit() or not 1 <= int(text) <= MAX_LIST_LIMIT:
        raise HttpError(400, "bad_request", f"limit is a number from 1 to {MAX_LIST_LIMIT}")
    return int(text)


def matches(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header names this entity tag (weak comparison)."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return bool(if_none_match) and (etag in tags or "*" in tags)


async def passed_on(response: ClientResponse, headers: list[Header]) -> Response:
    """A store's answer with ``headers`` in place of its own; small bodies are read whole."""
    if response.status == 416:
        await response.read()
        kept = [(b"content-range", response.headers.get(b"content-range", b"bytes */*"))]
        error = HttpError(416, "bad_range", "the range lies outside the file").response()
        return Response(416, error.headers + kept, error.body)
    if b"content-range" in response.headers:
        headers = [*headers, (b"content-range", response.headers[b"content-range"])]
    length = response.content_length
    if length is not None and length <= WHOLE_BYTES:
        try:
            return Response(response.status, headers, await response.read())
        except CallFailed as error:
            raise HttpError(503, "object_unavailable", "the store broke off") from error
    if length is not None:
        headers = [*headers, (b"content-length", b"%d" % length)]
    return Response(response.status, headers, response.chunks())
