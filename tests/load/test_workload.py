"""Calls of the file service's users, against a server: what is looked at, what is remembered."""

from __future__ import annotations

import time

import pytest

from harness.clock import SystemClock
from harness.load import checks
from harness.load.ledger import Ledger
from harness.load.outcome import FAILED, OK, Outcome
from harness.load.resolver import Resolver
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps, drive
from harness.load.tally import NoPen
from harness.load.wire.client import DROP, KEEP, Exchange, HttpClient
from harness.load.wire.poller import Poller
from harness.load.workload import Workload
from harness.plan.behaviour import Behaviour

from .server import StandIn


class Users:
    """A workload, and a way to do one thing after another with it."""

    def __init__(self, url: str, **behaviour: float) -> None:
        clock = SystemClock()
        self.http = HttpClient(url, Resolver(clock, None), poller=Poller())
        self.workload = Workload(
            Settings(seed=7), self.http, clock, Ledger(NoPen()), "t", Behaviour(**behaviour)
        )
        self.planned_t = 1000.0

    def call(self):
        self.planned_t += 0.1
        return self.workload.call(self.planned_t)

    def do(self, steps: Steps):
        return drive(steps, self._perform)

    def _perform(self, ask: Ask) -> Exchange:
        deadline_m = time.monotonic() + 5
        return self.http.perform(
            ask.request, ask.body, ask.take, deadline_m, head_only=ask.head_only, again=ask.again
        )

    def store(self, n: int) -> None:
        for steps in self.workload.warm_up()[:n]:
            assert self.do(steps()).outcome == OK

    def download(self) -> Outcome:
        call = self.call()
        stored, _ = call.file()
        exchange = self.do(call.get_file(stored))
        return checks.whole_file(exchange, sha256=stored.sha256, size_bytes=stored.size_bytes)


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def users(server):
    made = []

    def make(**behaviour: float) -> Users:
        made.append(Users(server.url, **behaviour))
        return made[-1]

    yield make
    for one in made:
        one.http.close()


def test_the_share_of_bodies_compared_is_what_was_asked_for_and_is_told(users):
    some = users(verify=0.25)
    some.store(5)
    assert {some.download() for _ in range(400)} == {Outcome(OK)}
    told = some.workload.about()
    assert told["bodies"] == 400
    assert told["verified"] / 400 == pytest.approx(0.25, abs=0.06)
    again = users(verify=0.25)
    again.store(5)
    assert [again.call().verifies() for _ in range(400)].count(True) == told["verified"]


def test_an_altered_body_is_found_where_it_is_compared_and_only_there(users, server):
    some = users(verify=0.5)
    some.store(5)
    server.faults.alter = True
    outcomes = [some.download() for _ in range(100)]
    wrong = outcomes.count(Outcome(FAILED, "checksum"))
    assert wrong == some.workload.verified
    assert 30 < wrong < 70
    assert outcomes.count(Outcome(OK)) == 100 - wrong


def test_a_body_nobody_looks_at_must_still_be_as_long_as_what_was_stored(users, server):
    some = users(verify=0.0001)
    some.store(3)
    body = b'{"error": "no"}'
    server.faults.answer = (200, "application/json", body)
    assert some.download() == Outcome(FAILED, "wrong-length")
    server.faults.answer = (503, "application/json", body)
    assert some.download() == Outcome(FAILED, "status-503")


@pytest.mark.parametrize("take", [KEEP, DROP])
def test_a_part_is_judged_by_where_it_lies_and_how_long_it_is(users, take):
    some = users()
    some.store(1)
    call = some.call()
    stored, _ = call.file()
    headers = {"Range": "bytes=3-9"}
    part = some.do(call.get_file(stored, headers, take=take))
    known = {"size_bytes": stored.size_bytes, "sha256": stored.sha256}
    right = checks.part(part, first=3, last=9, expected=part.body, **known)
    assert right == Outcome(OK)
    assert checks.part(part, first=3, last=8, **known) == Outcome(FAILED, "content-range")


def test_pictures_are_looked_at_in_part_and_told_from_messages(users, server):
    some = users(verify=0.0001)
    some.store(0)
    for steps in some.workload.warm_up()[-1:]:
        assert some.do(steps()).outcome == OK
    call = some.call()
    stored, again = call.picture()
    assert not again
    exchange = some.do(call.get_variant(stored, 160))
    assert exchange.dropped
    assert checks.picture(exchange, width=160) == Outcome(OK)
    server.faults.answer = (200, "application/json", b"{}")
    exchange = some.do(call.get_variant(stored, 160))
    assert checks.picture(exchange, width=160) == Outcome(FAILED, "content-type")


def test_a_user_opens_what_it_saw_in_a_list_and_downloads_what_it_uploaded(users):
    some = users(steps=1e6, think_s=0.001)
    some.store(30)
    call = some.call()
    answer = some.do(call.get("/v1/files", limit=20))
    ids = checks.listed(answer)
    assert len(ids) == 20
    call.saw([*ids, "nobody-knows"])
    seen = {stored.object_id for stored in call.visitor.files}
    assert seen
    assert seen <= set(ids)
    object_id, body = some.workload.new_file()
    done = some.do(call.upload(object_id, body, op="upload", content_type="x/y"))
    assert done == Outcome(OK)
    assert call.visitor.files[0].object_id == object_id
    later = some.call()
    assert later.visitor is call.visitor
    asked = [later.file() for _ in range(60)]
    assert any(again and stored.object_id in seen | {object_id} for stored, again in asked)


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"files": [{"id": "a"}, {"id": "b", "x": 1}, {"x": 2}]}', ["a", "b"]),
        (b'["a", "b", 3]', ["a", "b"]),
        (b'{"files": 3}', []),
        (b"no", []),
    ],
)
def test_ids_in_a_listing(body, ids):
    exchange = Exchange()
    exchange.body = body
    assert checks.listed(exchange) == ids


def test_the_sequence_of_choices_follows_from_the_seed(users):
    def choices() -> list[tuple[int, str, float]]:
        some = users()
        some.store(40)
        calls = [some.call() for _ in range(300)]
        return [(c.visitor.number, c.file()[0].object_id, c.random.random()) for c in calls]

    assert choices() == choices()
