"""Metadata and bytes of files, as the file and the image service read them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from urllib.parse import quote

from harness.lab.services.asgi import Header, HttpError
from harness.lab.services.client import Body, CallFailed, ClientResponse
from harness.lab.services.database import DatabaseUnavailable, Row
from harness.lab.services.pod import Bucket, Pod

#: How long a zone may serve metadata from its Redis. A delete in another zone is seen after it.
METADATA_TTL_S = 3.0
STORE_TIMEOUT_S = 1.5
STORE_WRITE_TIMEOUT_S = 3.0
STORE_REST_S = 3.0
#: For how long an answer of the permission service is used again without asking.
PERMISSION_STALE_S = 60.0
_PERMISSION_ENTRIES = 10_000

COLUMNS = "id, sha256, size_bytes, content_type, owner, object_key, deleted_at"


@dataclass(frozen=True)
class File:
    """Metadata of one stored file."""

    id: str
    sha256: str
    size_bytes: int
    content_type: str
    owner: str
    object_key: str

    @classmethod
    def of(cls, row: Row) -> File:
        return cls(*(row[name] for name in COLUMNS.split(", ")[:-1]))

    @property
    def etag(self) -> str:
        return f'"{self.sha256}"'


def not_found(file_id: str) -> HttpError:
    return HttpError(404, "not_found", f"there is no file {file_id}")


def from_database(error: DatabaseUnavailable) -> HttpError:
    """504 when the statement may have been carried out, 503 when it surely was not."""
    if error.unsure:
        return HttpError(504, "database_timeout", "the database did not confirm in time")
    return HttpError(503, "database_unavailable", "the database cannot be reached")


class Files:
    """Looks up metadata (Redis, reader, writer) and reads bytes (own store, then the peer)."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._store_rest_until_s: dict[str, float] = {}
        self._allowed: dict[tuple[str, str, str], tuple[float, bool]] = {}

    async def find(self, file_id: str) -> File:
        """Raises HttpError 404 when the file is not there or deleted, 503 or 504 when unknown."""
        cached = await self._pod.cache.get(f"file:{file_id}")
        if cached:
            return File(**json.loads(cached))
        sql = f"SELECT {COLUMNS} FROM files WHERE id = $1"
        try:
            rows = await self._pod.reader.fetch_confirmed(sql, file_id)
        except DatabaseUnavailable as error:
            raise from_database(error) from error
        if not rows or rows[0]["deleted_at"] is not None:
            raise not_found(file_id)
        file = File.of(rows[0])
        await self.remember(file)
        return file

    async def remember(self, file: File) -> None:
        value = json.dumps(asdict(file), separators=(",", ":")).encode()
        await self._pod.cache.set(f"file:{file.id}", value, METADATA_TTL_S)

    async def forget(self, file_id: str) -> None:
        await self._pod.cache.delete(f"file:{file_id}")

    async def open(self, key: str, headers: list[Header]) -> ClientResponse:
        """The object's bytes from wherever they are: an answer of 200, 206 or 416.

        Raises HttpError 404 when both stores say it is not there, 503 when one cannot tell.
        """
        env = self._pod.env
        unknown = False
        loop = asyncio.get_running_loop()
        stores = [env.store, *([env.store_peer] if env.store_peer else [])]
        now_s = loop.time()
        # A store that rests is still asked when nobody else has the object.
        stores.sort(key=lambda store: self._store_rest_until_s.get(store.host, 0.0) > now_s)
        for store in stores:
            try:
                response = await self.store_call("GET", store, key, headers=headers)
            except CallFailed:
                self._store_rest_until_s[store.host] = loop.time() + STORE_REST_S
                unknown = True
                continue
            if response.status in (200, 206, 416):
                return response
            unknown = unknown or response.status != 404
            await response.read()
        if unknown:
            raise HttpError(503, "object_unavailable", "a store that may have the bytes is away")
        raise HttpError(404, "object_missing", "the bytes of this file are in no store")

    async def store_call(
        self,
        method: str,
        store: Bucket,
        key: str,
        *,
        headers: list[Header] | None = None,
        body: Body = b"",
        length: int | None = None,
    ) -> ClientResponse:
        """One call to a store. Raises CallFailed."""
        target = f"/{store.name}/{quote(key)}"
        total_s = STORE_WRITE_TIMEOUT_S if method == "PUT" else STORE_TIMEOUT_S
        return await self._pod.client.request(
            method,
            store.host,
            store.port,
            target,
            headers=headers or (),
            body=body,
            length=length,
            total_s=total_s,
            repeatable=True,
        )

    async def require(self, user: str, action: str, file_id: str = "") -> None:
        """Raises HttpError 403 unless the permission service allows it, 503 if it cannot be asked.

        An answer that rests on the user's role alone is used for every file.
        """
        now_s = asyncio.get_running_loop().time()
        for key in ((user, action, ""), (user, action, file_id)):
            known = self._allowed.get(key)
            if known and known[0] > now_s:
                return self._check(known[1], user, action)
        try:
            answer = await self._ask_permission(user, action, file_id)
        except CallFailed as error:
            for key in ((user, action, ""), (user, action, file_id)):
                known = self._allowed.get(key)
                if known and known[0] + PERMISSION_STALE_S > now_s:
                    return self._check(known[1], user, action)
            raise HttpError(
                503, "permission_unavailable", "permissions cannot be checked"
            ) from error
        if len(self._allowed) > _PERMISSION_ENTRIES:
            self._allowed.clear()
        key = (user, action, "" if answer["scope"] == "role" else file_id)
        self._allowed[key] = (now_s + float(answer["ttl_s"]), bool(answer["allow"]))
        return self._check(bool(answer["allow"]), user, action)

    @staticmethod
    def _check(allow: bool, user: str, action: str) -> None:
        if not allow:
            raise HttpError(403, "forbidden", f"{user or 'nobody'} may not {action} this")

    async def _ask_permission(self, user: str, action: str, file_id: str) -> dict[str, object]:
        pod = self._pod
        target = f"/check?user={quote(user)}&action={quote(action)}&object={quote(file_id)}"
        response = await pod.client.request(
            "GET", pod.service("permission"), pod.env.port, target, total_s=2.0, attempt_s=1.0
        )
        body = await response.read()
        if response.status != 200:
            raise CallFailed(f"permission answered {response.status}", sent=True)
        answer: dict[str, object] = json.loads(body)
        return answer
