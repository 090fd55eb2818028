"""What the operations of a locustfile work with: one :class:`Call` per arrival.

A locustfile says what users do; this keeps the promises it should not have to think
about: the deadline that runs from the planned instant, the user's token, the ledger
line for every upload and delete, the objects that may be asked for.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from harness.clock import Clock
from harness.load import checks, content, outcome
from harness.load.client import Exchange, HttpClient
from harness.load.ledger import Ledger
from harness.load.objects import KnownObjects, StoredObject
from harness.load.outcome import FAILED, OK, UNSURE, Outcome
from harness.load.settings import Settings

#: A token is renewed when less than this part of its life is left.
RENEW_AT = 0.25


class NothingToSend(Exception):
    """The operation has nothing to work on (no object to delete, say)."""


class VirtualUser:
    """Someone with a token of their own."""

    def __init__(self, http: HttpClient, clock: Clock, user: str, password: str) -> None:
        self._http = http
        self._clock = clock
        self._login = json.dumps({"user": user, "password": password}).encode()
        self._token = ""
        self._renew_m = 0.0
        self._expires_m = 0.0
        self._lock = threading.Lock()

    def token(self, deadline_m: float) -> tuple[str, str]:
        """(token, "") or ("", why there is none). Asks the service only when needed."""
        if self._token and self._clock.monotonic_s() < self._expires_m:
            return self._token, ""
        left_s = deadline_m - self._clock.monotonic_s()
        if left_s <= 0 or not self._lock.acquire(timeout=left_s):
            return "", "token-timeout"
        try:
            if self._token and self._clock.monotonic_s() < self._expires_m:
                return self._token, ""
            return self._fetch(deadline_m)
        finally:
            self._lock.release()

    def renew_if_due(self, timeout_s: float) -> None:
        """Renew ahead of time, so that no request has to wait for it."""
        now_m = self._clock.monotonic_s()
        if now_m >= self._renew_m:
            with self._lock:
                self._fetch(now_m + timeout_s)

    def reject(self, token: str) -> None:
        """The service did not accept ``token``: the next request fetches a new one."""
        if token == self._token:
            self._token = ""

    def _fetch(self, deadline_m: float) -> tuple[str, str]:
        exchange = self._http.request(
            "POST",
            "/v1/token",
            deadline_m=deadline_m,
            headers={"Content-Type": "application/json"},
            body=self._login,
        )
        result = outcome.of_read(exchange, (200, 201))
        if result.outcome != OK:
            return "", f"token-{result.error}"
        document = outcome.json_object(exchange) or {}
        token, life_s = document.get("token"), document.get("expires_in")
        if not isinstance(token, str) or not isinstance(life_s, int | float) or life_s <= 0:
            return "", "token-error-body"
        now_m = self._clock.monotonic_s()
        self._token, self._expires_m = token, now_m + life_s
        self._renew_m = now_m + life_s * (1 - RENEW_AT)
        return token, ""


class Workload:
    """What all calls of one generator process share."""

    def __init__(
        self, settings: Settings, http: HttpClient, clock: Clock, ledger: Ledger, run_tag: str
    ) -> None:
        self.settings = settings
        self.http = http
        self.clock = clock
        self.ledger = ledger
        self.random = random.Random(f"behaviour:{settings.seed}:{settings.worker}")
        self.files = KnownObjects(random.Random(f"files:{settings.seed}:{settings.worker}"))
        self.images = KnownObjects(random.Random(f"images:{settings.seed}:{settings.worker}"))
        self.users = [
            VirtualUser(http, clock, settings.user, settings.password)
            for _ in range(max(1, settings.virtual_users))
        ]
        #: All objects of this worker begin with this.
        self.prefix = f"{run_tag}-{settings.worker_name}"
        self._objects = 0

    def new_object_id(self, kind: str) -> str:
        """An id never used before: ``<run>-<worker>-<kind>-<number>``."""
        self._objects += 1
        return f"{self.prefix}-{kind}-{self._objects:06d}"

    def new_file(self) -> tuple[str, bytes]:
        """(id, bytes) of a file not yet uploaded."""
        object_id = self.new_object_id("f")
        seed = self.settings.seed
        return object_id, content.file_bytes(
            seed, object_id, content.file_size_bytes(seed, object_id)
        )

    def new_image(self) -> tuple[str, bytes]:
        """(id, bytes) of a picture not yet uploaded."""
        object_id = self.new_object_id("i")
        return object_id, content.image_bytes(self.settings.seed, object_id)

    def call(self, planned_t: float, planned_m: float) -> Call:
        """A call for the arrival planned at this wall and monotonic instant."""
        return Call(self, self.random.choice(self.users), planned_t, planned_m)


class Call:
    """One arrival: sends what the operation asks for, before the arrival's deadline."""

    def __init__(
        self, workload: Workload, user: VirtualUser, planned_t: float, planned_m: float
    ) -> None:
        self.workload = workload
        self.random = workload.random
        self.planned_t = planned_t
        self.deadline_m = planned_m + workload.settings.timeout_s
        #: The last answer, from which region, zone and bytes are taken.
        self.exchange = Exchange()
        self.method = ""
        self.bytes_sent = 0
        self.is_write = False
        self._user = user

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: object) -> Exchange:
        """GET ``path``; ``query`` becomes the query string."""
        if query:
            path = f"{path}?{urlencode({k: str(v) for k, v in query.items()})}"
        return self.send("GET", path, headers)

    def get_file(self, stored: StoredObject, headers: Mapping[str, str] | None = None) -> Exchange:
        """GET a file's content; remembers its tag, and forgets an object that is gone."""
        stored.users += 1
        try:
            exchange = self.get(file_path(stored.object_id), headers)
        finally:
            stored.users -= 1
        self._learn(self.workload.files, stored, exchange)
        return exchange

    def get_variant(self, stored: StoredObject, width: int) -> Exchange:
        """GET an image resized to ``width`` pixels."""
        exchange = self.get(f"/v1/images/{quote(stored.object_id)}", w=width)
        self._learn(self.workload.images, stored, exchange)
        return exchange

    def upload(self, object_id: str, body: bytes, *, op: str, content_type: str) -> Outcome:
        """PUT an object, write the ledger, and know the object once it is acknowledged."""
        sha256 = hashlib.sha256(body).hexdigest()
        headers = {"Content-Type": content_type, "X-Checksum-Sha256": sha256}
        result = Outcome(UNSURE, "unfinished")
        self.is_write = True
        try:
            exchange = self.send("PUT", file_path(object_id), headers, body)
            result = checks.upload(exchange, sha256=sha256)
        finally:
            # Also when this call is given up half-way: the object may be stored.
            self.workload.ledger.write(
                object_id,
                op,
                sha256=sha256,
                size_bytes=len(body),
                planned_t=self.planned_t,
                outcome=result.outcome,
                ack_t=self.workload.clock.wall_s(),
                region=self.region,
                error=result.error,
            )
        if result.outcome == OK:
            known = self.workload.images if op == "image" else self.workload.files
            etag = exchange.header("etag")
            known.add(StoredObject(object_id, sha256, len(body), etag))
        return result

    def delete(self, stored: StoredObject) -> Outcome:
        """DELETE an object already taken out of the known ones, and write the ledger."""
        result = Outcome(UNSURE, "unfinished")
        self.is_write = True
        try:
            exchange = self.send("DELETE", file_path(stored.object_id))
            result = outcome.of_write(exchange, (200, 204))
            if exchange.status == 404:
                # Somewhere on the way the request may have been sent twice, and the first
                # one done it; nobody can say that this delete did not happen.
                result = Outcome(UNSURE, result.error)
        finally:
            self.workload.ledger.delete(
                stored.object_id,
                outcome=result.outcome,
                ack_t=self.workload.clock.wall_s(),
                region=self.region,
            )
        return result

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Exchange:
        """Send with the user's token; a token that is refused is renewed once."""
        self.method = method
        exchange = self._send_once(method, path, headers, body)
        if exchange.status == 401:
            exchange = self._send_once(method, path, headers, body)
        self.exchange = exchange
        return exchange

    @property
    def region(self) -> str:
        return self.exchange.header("x-served-region")

    @property
    def zone(self) -> str:
        return self.exchange.header("x-served-zone")

    def unfinished(self) -> Outcome:
        """What to call this if it is given up now."""
        return Outcome(UNSURE if self.is_write else FAILED, "unfinished")

    def _send_once(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes
    ) -> Exchange:
        token, error = self._user.token(self.deadline_m)
        if error:
            return Exchange(error=error)
        exchange = self.workload.http.request(
            method,
            path,
            deadline_m=self.deadline_m,
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
            body=body,
        )
        self.bytes_sent += len(body)
        if exchange.status == 401:
            self._user.reject(token)
        return exchange

    def _learn(self, known: KnownObjects, stored: StoredObject, exchange: Exchange) -> None:
        if exchange.status == 404:
            known.forget(stored)
        elif exchange.status in (200, 206) and not exchange.error:
            stored.etag = exchange.header("etag") or stored.etag


def file_path(object_id: str) -> str:
    """Path of a file in the service's API."""
    return f"/v1/files/{quote(object_id)}"
