"""What the operations of a locustfile work with: one :class:`Call` per arrival.

A locustfile says what users do; this keeps the promises it should not have to think
about: the deadline that runs from the planned instant, the user's token, the ledger
line for every upload and delete, the objects that may be asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote

from harness.clock import Clock
from harness.load import checks, content, outcome
from harness.load.ledger import Ledger
from harness.load.objects import KnownObjects, StoredObject
from harness.load.outcome import FAILED, OK, UNSURE, Outcome
from harness.load.parts import CUT_AFTER_S, FROM_BYTES, PartsUnknown, PartsUpload
from harness.load.plain import Getting
from harness.load.settings import Settings
from harness.load.steps import Ask, Pending, Steps
from harness.load.visitors import REMEMBERED, Visitor, Visitors, seen_now
from harness.load.wire.ask import DROP, HASH, KEEP
from harness.load.wire.client import Exchange, HttpClient
from harness.plan.behaviour import Behaviour

log = logging.getLogger(__name__)

#: A token is renewed when less than this part of its life is left.
RENEW_AT = 0.25
#: Variants of pictures that are remembered: a service that serves each object its own has many.
_SHOWN_MOST = 4096


class VirtualUser:
    """An account with a token of its own; many users of a day share it."""

    def __init__(self, http: HttpClient, clock: Clock, user: str, password: str) -> None:
        login = json.dumps({"user": user, "password": password}).encode()
        head = http.head("POST", "/v1/token", {"Content-Type": "application/json"}, len(login))
        self._ask = Ask("POST", head, login)
        self._clock = clock
        self._token = ""
        self._why_not = ""
        self._renew_m = 0.0
        self._expires_m = 0.0
        self._fetching: Pending | None = None

    def token(self) -> Steps[tuple[str, str]]:
        """(token, "") or ("", why there is none). Asks the service only when needed."""
        if not self._token or self._clock.monotonic_s() >= self._expires_m:
            yield from self._fetch()
        return self._token, "" if self._token else self._why_not

    def renew_if_due(self) -> Steps[None]:
        """Renew ahead of time, so that no request has to wait for it."""
        if self._clock.monotonic_s() >= self._renew_m:
            yield from self._fetch()

    def reject(self, token: str) -> None:
        """The service did not accept ``token``: the next request fetches a new one."""
        if token == self._token:
            self._token = ""

    def _fetch(self) -> Steps[None]:
        """Fetch a token, or wait for whoever is at it."""
        if self._fetching is not None:
            yield self._fetching
            return
        self._fetching = pending = Pending()
        try:
            self._take((yield self._ask))
        finally:
            self._fetching = None
            pending.resolve()

    def _take(self, exchange: Exchange) -> None:
        result = outcome.of_read(exchange, (200, 201))
        if result.outcome != OK:
            self._fail(f"token-{result.error}")
            return
        document = outcome.json_object(exchange) or {}
        token, life_s = document.get("token"), document.get("expires_in")
        if not isinstance(token, str) or not isinstance(life_s, int | float) or life_s <= 0:
            self._fail("token-error-body")
            return
        now_m = self._clock.monotonic_s()
        self._token, self._expires_m = token, now_m + life_s
        self._renew_m = now_m + life_s * (1 - RENEW_AT)

    def _fail(self, why: str) -> None:
        """No new token; one that is still good goes on being used."""
        self._why_not = why
        if self._clock.monotonic_s() >= self._expires_m:
            self._token = ""


class Workload:
    """What all calls of one generator process share."""

    def __init__(
        self,
        settings: Settings,
        http: HttpClient,
        clock: Clock,
        ledger: Ledger,
        run_tag: str,
        behaviour: Behaviour | None = None,
    ) -> None:
        """``behaviour``: that of the locustfile; what the settings say goes before it."""
        self.settings = settings
        self.http = http
        self.clock = clock
        self.ledger = ledger
        self.behaviour = behaviour = (behaviour or Behaviour()).changed(settings.behaviour)
        self.random = self._stream("behaviour")
        self.files = self._known("files")
        self.images = self._known("images")
        self.users = [
            VirtualUser(http, clock, settings.user, settings.password)
            for _ in range(max(1, settings.virtual_users))
        ]
        self.visitors = Visitors(behaviour, self._stream("visitors"), self.users)
        self._verify = self._stream("verify").random
        #: answers with a body that were asked for, and those whose bytes were compared
        self.bodies = 0
        self.verified = 0
        self._parts = self._stream("parts").random
        self._parts_known = behaviour.resumed > 0
        #: (width, hash of a variant) → the picture that it was served for
        self._shown: dict[tuple[int, int], int] = {}
        #: uploads in parts that were acknowledged; parts cut off on purpose; times one was resumed
        self.in_parts = 0
        self.interruptions = 0
        self.resumptions = 0
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

    def warm_up(self) -> list[Callable[[], Steps[Outcome]]]:
        """Objects to be there before the first arrival asks for one."""
        settings = self.settings
        files = -(-settings.warm_up_files // settings.workers)
        images = -(-settings.warm_up_images // settings.workers)
        return [self._store_file] * files + [self._store_image] * images

    def housekeeping(self) -> Iterator[Steps[None]]:
        """Tokens are renewed before anybody needs them."""
        return (user.renew_if_due() for user in self.users)

    def close(self) -> None:
        self.ledger.close()

    def about(self) -> dict[str, object]:
        """What goes into the evidence at the end: who came, how much of the content was checked."""
        return {
            "bodies": self.bodies,
            "verified": self.verified,
            "in_parts": self.in_parts,
            "interruptions": self.interruptions,
            "resumptions": self.resumptions,
            "sessions": self.visitors.begun,
            "users_most": self.visitors.most,
        }

    def wants_parts(self, size_bytes: int) -> bool:
        """Whether a file of this size goes up in parts: a share of the larger ones, so drawn."""
        if size_bytes < FROM_BYTES or not self._parts_known:
            return False
        return self._parts() < self.behaviour.resumed

    def interrupts(self) -> bool:
        """Whether the next part is cut off on its way: so drawn."""
        cut = self._parts() < self.behaviour.interrupted
        self.interruptions += cut
        return cut

    def shows(self, body: bytes, stored: StoredObject, width: int) -> bool:
        """Whether the variant of a picture is not one that was served for another picture. Which
        of the two it is of cannot be told, so the first is believed."""
        shown = content.picture_of(self.settings.seed, stored.object_id)
        seen, key = self._shown, (width, hash(body))
        if len(seen) < _SHOWN_MOST:
            return seen.setdefault(key, shown) == shown
        return seen.get(key, shown) == shown

    def no_parts(self) -> None:
        """The service takes no uploads in parts: all go whole from now on."""
        self._parts_known = False
        log.warning("the service takes no uploads in parts (tus): files are sent whole")

    def _stream(self, name: str) -> random.Random:
        """A source of chance of its own, so that no choice shifts the others."""
        return random.Random(f"{name}:{self.settings.seed}:{self.settings.worker}")

    def _known(self, name: str) -> KnownObjects:
        behaviour = self.behaviour
        return KnownObjects(
            self._stream(name),
            hot_share=behaviour.hot_share,
            hot_objects=-(-behaviour.hot_objects // self.settings.workers),
        )

    def _store_file(self) -> Steps[Outcome]:
        object_id, body = self.new_file()
        call = self._first_call()
        return (
            yield from call.upload(object_id, body, op="upload", content_type=content.FILE_TYPE)
        )

    def _store_image(self) -> Steps[Outcome]:
        object_id, body = self.new_image()
        call = self._first_call()
        return (
            yield from call.upload(object_id, body, op="image", content_type=content.IMAGE_TYPE)
        )

    def call(self, planned_t: float) -> Call:
        """A call for the arrival planned at this wall instant."""
        return Call(self, self.visitors.next(planned_t), planned_t)

    def _first_call(self) -> Call:
        """A call before the schedule, by nobody of its users."""
        return Call(self, Visitor(0, self.users[0]), self.clock.wall_s())


class Call(Getting):
    """One arrival. Its methods are steps: ``answer = yield from call.get(…)``."""

    __slots__ = (
        "bytes_sent",
        "exchange",
        "is_write",
        "method",
        "planned_t",
        "random",
        "visitor",
        "workload",
    )

    def __init__(self, workload: Workload, visitor: Visitor, planned_t: float) -> None:
        self.workload = workload
        self.random = workload.random
        self.planned_t = planned_t
        #: The last answer, from which region, zone and bytes are taken.
        self.exchange = Exchange()
        self.method = ""
        self.bytes_sent = 0
        self.is_write = False
        #: who does it, in the middle of its session
        self.visitor = visitor

    def file(self) -> tuple[StoredObject | None, bool]:
        """A file this user asks for now, and whether it looked at it before; None if none is
        stored."""
        visitor = self.visitor
        stored, again = self.workload.files.choose(visitor.files)
        if stored is not None:
            visitor.files = seen_now(stored, visitor.files)
        return stored, again

    def picture(self) -> tuple[StoredObject | None, bool]:
        """A picture this user asks for now, and whether it looked at it before."""
        visitor = self.visitor
        stored, again = self.workload.images.choose(visitor.images)
        if stored is not None:
            visitor.images = seen_now(stored, visitor.images)
        return stored, again

    def saw(self, object_ids: list[str]) -> None:
        """The user saw a list of files, and may open some of them next."""
        files, visitor = self.workload.files, self.visitor
        for _ in range(min(REMEMBERED, len(object_ids))):
            stored = files.get(self.random.choice(object_ids))
            if stored is not None:
                visitor.files = seen_now(stored, visitor.files)

    def verifies(self) -> bool:
        """Whether the bytes of this answer are to be compared: so drawn (``traffic.verify``)."""
        share = self.workload.behaviour.verify
        return share >= 1.0 or self.workload._verify() < share

    def get_file(
        self,
        stored: StoredObject,
        headers: Mapping[str, str] | None = None,
        *,
        take: int | None = None,
    ) -> Steps[Exchange]:
        """GET a file's content; remembers its tag, and forgets an object that is gone.

        ``take`` None: its bytes are hashed if they are to be compared (:meth:`verifies`),
        else dropped.
        """
        if take is None:
            take = HASH if self.verifies() else DROP
        stored.users += 1
        try:
            exchange = yield from self.get(file_path(stored.object_id), headers, take=take)
        finally:
            stored.users -= 1
        self._learn(self.workload.files, stored, exchange)
        return exchange

    def get_variant(self, stored: StoredObject, width: int) -> Steps[Exchange]:
        """GET an image resized to ``width`` pixels; dropped unread unless it is to be looked at."""
        take = KEEP if self.verifies() else DROP
        path = f"/v1/images/{quote(stored.object_id)}?w={width}"
        exchange = yield from self.send("GET", path, take=take)
        self._learn(self.workload.images, stored, exchange)
        return exchange

    def check_picture(self, exchange: Exchange, stored: StoredObject, width: int) -> Outcome:
        """As :func:`checks.picture`, and it must not have been served for another picture before:
        a placeholder that does not say that it is one."""
        result = checks.picture(exchange, width=width)
        if result.outcome != OK or exchange.dropped or exchange.degraded:
            return result
        return result if self.workload.shows(exchange.body, stored, width) else checks.ANOTHERS

    def upload(self, object_id: str, body: bytes, *, op: str, content_type: str) -> Steps[Outcome]:
        """Upload an object whole, or a share of the larger files in parts (``traffic.resumed``).

        Writes the ledger, and knows the object once it is acknowledged.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        result = Outcome(UNSURE, "unfinished")
        self.is_write = True
        try:
            # The first objects, which everybody waits for, are nobody's (0) and go whole.
            by_user = self.visitor.number > 0
            if by_user and op == "upload" and self.workload.wants_parts(len(body)):
                result = yield from self._send_parts(object_id, body, sha256, content_type)
            else:
                result = yield from self._send_whole(object_id, body, sha256, content_type)
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
            etag = self.exchange.header("etag")
            stored = StoredObject(object_id, sha256, len(body), etag)
            known.add(stored)
            visitor = self.visitor
            if op == "image":
                visitor.images = seen_now(stored, visitor.images)
            else:
                visitor.files = seen_now(stored, visitor.files)
        return result

    def _send_whole(
        self, object_id: str, body: bytes, sha256: str, content_type: str
    ) -> Steps[Outcome]:
        headers = {"Content-Type": content_type, "X-Checksum-Sha256": sha256}
        exchange = yield from self.send("PUT", file_path(object_id), headers, body)
        return checks.upload(exchange, sha256=sha256)

    def _send_parts(
        self, object_id: str, body: bytes, sha256: str, content_type: str
    ) -> Steps[Outcome]:
        parts = PartsUpload(self, object_id, body, sha256=sha256, content_type=content_type)
        try:
            result = yield from parts.steps()
        except PartsUnknown:
            self.workload.no_parts()
            return (yield from self._send_whole(object_id, body, sha256, content_type))
        stated = self.exchange.header("x-checksum-sha256")
        if result.outcome == OK and stated and stated != sha256:
            return Outcome(UNSURE, "checksum")
        self.workload.in_parts += result.outcome == OK
        return result

    def delete(self, stored: StoredObject) -> Steps[Outcome]:
        """DELETE an object already taken out of the known ones, and write the ledger."""
        result = Outcome(UNSURE, "unfinished")
        self.is_write = True
        try:
            exchange = yield from self.send("DELETE", file_path(stored.object_id))
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
        *,
        take: int = KEEP,
        cut_at: int | None = None,
    ) -> Steps[Exchange]:
        """Send with the user's token; a token that is refused is renewed once.

        ``cut_at``: send so many bytes of the body and cut the connection a moment later.
        """
        self.method = method
        exchange = yield from self._send_once(method, path, headers, body, take, cut_at)
        if exchange.status == 401:
            exchange = yield from self._send_once(method, path, headers, body, take, cut_at)
        self.exchange = exchange
        return exchange

    @property
    def region(self) -> str:
        return self.exchange.served[0]

    @property
    def zone(self) -> str:
        return self.exchange.served[1]

    def unfinished(self) -> Outcome:
        """What to call this if it is given up now."""
        return Outcome(UNSURE if self.is_write else FAILED, "unfinished")

    def _send_once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes,
        take: int,
        cut_at: int | None,
    ) -> Steps[Exchange]:
        account = self.visitor.account
        token, error = yield from account.token()
        if error:
            return Exchange(error)
        fields = {"Authorization": f"Bearer {token}", **(headers or {})}
        length = len(body) if body or method == "POST" else None
        head = self.workload.http.head(method, path, fields, length)
        if cut_at is not None:
            body = body[:cut_at]
        within_s = None if cut_at is None else CUT_AFTER_S
        exchange = yield Ask(method, head, body, take=take, within_s=within_s)
        self.bytes_sent += len(body)
        if exchange.status == 401:
            account.reject(token)
        return exchange

    def _learn(self, known: KnownObjects, stored: StoredObject, exchange: Exchange) -> None:
        if exchange.status == 404:
            known.forget(stored)
        elif exchange.status in (200, 206) and not exchange.error:
            self.workload.bodies += 1
            self.workload.verified += not exchange.dropped
            stored.etag = exchange.header("etag") or stored.etag


def file_path(object_id: str) -> str:
    """Path of a file in the service's API."""
    return f"/v1/files/{quote(object_id)}"
