"""Calls of the file service's users, against a server: what is looked at, what is remembered."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.load import checks
from harness.load.outcome import FAILED, OK, UNSURE, Outcome
from harness.load.parts import FAILURES_MAX, FROM_BYTES, PART_BYTES
from harness.load.wire.ask import DROP, KEEP
from harness.load.wire.client import Exchange
from harness.plan.behaviour import Behaviour

from .server import StandIn
from .using import Users


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
        one.close()


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


def shown(some: Users, width: int = 160, times: int = 40) -> Counter[Outcome]:
    """What became of pictures that were asked for."""
    found: Counter[Outcome] = Counter()
    for _ in range(times):
        call = some.call()
        stored, _ = call.picture()
        exchange = some.do(call.get_variant(stored, width))
        found[call.check_picture(exchange, stored, width)] += 1
    return found


def test_a_placeholder_that_does_not_say_so_is_found_by_being_shown_for_other_pictures(
    users, server
):
    some = users()
    for steps in some.workload.warm_up()[-12:]:
        assert some.do(steps()).outcome == OK
    assert set(shown(some)) == {Outcome(OK)}
    server.faults.placeholder = "none"
    # The first is believed: whose it is cannot be told.
    found = shown(some)
    assert found[Outcome(FAILED, "wrong-picture")] > 20
    assert set(found) == {Outcome(OK), Outcome(FAILED, "wrong-picture")}
    # One that says so is left to whoever counts it; the pictures themselves are right again.
    server.faults.says = {"X-Degraded": "placeholder"}
    assert set(shown(some)) == {Outcome(OK)}
    server.faults.placeholder, server.faults.says = "", {}
    assert set(shown(some)) == {Outcome(OK)}


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


def test_what_the_plan_says_goes_before_what_the_locustfile_says(server):
    some = Users(server.url, {"hot_share": 0.9, "hot_objects": 1}, hot_share=0.1, steps=3)
    try:
        assert some.workload.behaviour == Behaviour(hot_share=0.9, hot_objects=1, steps=3)
        some.store(20)
        asked = [some.call().file()[0].place for _ in range(300)]
        assert asked.count(0) > 260
    finally:
        some.close()


def test_the_sequence_of_choices_follows_from_the_seed(users):
    def choices() -> list[tuple[int, str, float]]:
        some = users()
        some.store(40)
        calls = [some.call() for _ in range(300)]
        return [(c.visitor.number, c.file()[0].object_id, c.random.random()) for c in calls]

    assert choices() == choices()


# ---- uploads in parts ----------------------------------------------------------------------------

SIZE = 3 * PART_BYTES + 100  # four parts


def test_a_share_of_the_larger_files_goes_in_parts_and_each_is_one_upload(users, server):
    some = users(resumed=0.5, interrupted=0.0)
    small = [some.upload(FROM_BYTES - 1) for _ in range(3)]
    assert server.requests["PATCH"] == 0
    large = [some.upload(SIZE) for _ in range(40)]
    assert {result for _, _, result in small + large} == {Outcome(OK)}
    in_parts = some.workload.in_parts
    assert 10 < in_parts < 30
    assert server.requests["PATCH"] == 4 * in_parts
    assert server.requests["PUT"] == 43 - in_parts
    assert all(server.files[object_id][0] == body for object_id, body, _ in small + large)
    assert [line["outcome"] for line in some.lines] == ["acked"] * 43
    assert len(some.workload.files) == 43


def test_parts_cut_off_on_their_way_are_sent_again_from_where_it_stopped(users, server):
    some = users(resumed=1.0, interrupted=0.5)
    done = [some.upload(SIZE) for _ in range(3)]
    assert {result for _, _, result in done} == {Outcome(OK)}
    told = some.workload.about()
    assert told["in_parts"] == 3
    assert told["interruptions"] == told["resumptions"] == server.requests["HEAD"] > 3
    # What was cut never came whole; nothing that had come was sent twice.
    assert server.requests["PATCH"] == 12
    assert all(server.files[object_id][0] == body for object_id, body, _ in done)
    again = users(resumed=1.0, interrupted=0.5)
    for _ in range(3):
        again.upload(SIZE)
    assert again.workload.interruptions == told["interruptions"]


@pytest.mark.parametrize(
    ("parts", "outcome", "stored"),
    [
        # A part is lost, or its answer is: it goes on from what the service has.
        ([(204, True), (503, False)], Outcome(OK), True),
        ([(204, True), (0, False), (0, True)], Outcome(OK), True),
        # The answer to the last part is lost: HEAD says that it is done.
        ([(204, True)] * 3 + [(0, True)], Outcome(OK), True),
        ([(204, True)] * 3 + [(504, True)], Outcome(OK), True),
        # The service forgot it: begun anew.
        ([(204, True), (410, False)], Outcome(OK), True),
        # Refused for good, or too often: surely not stored while the last part was not sent.
        ([(204, True), (422, False)], Outcome(FAILED, "status-422"), False),
        ([(204, True)] + [(503, False)] * 9, Outcome(FAILED, "status-503"), False),
        ([(204, True)] * 3 + [(503, False)] * 9, Outcome(FAILED, "status-503"), False),
        # It may have come to its end, and nobody can say.
        ([(204, True)] * 3 + [(504, False)] * 9, Outcome(UNSURE, "status-504"), False),
    ],
)
def test_what_befalls_a_part_decides_what_is_known_of_the_file(
    users, server, parts, outcome, stored
):
    some = users(resumed=1.0, interrupted=0.0)
    server.faults.parts = list(parts)
    object_id, body, result = some.upload(SIZE)
    assert result == outcome
    assert (server.files.get(object_id, (b"", ""))[0] == body) is stored
    [line] = some.lines
    assert (line["object"], line["size_bytes"]) == (object_id, SIZE)
    expected = {OK: "acked", FAILED: "failed", UNSURE: "unsure"}[outcome.outcome]
    assert line["outcome"] == expected
    if not stored:
        assert server.requests["PATCH"] <= len(parts) - 9 + FAILURES_MAX + 1 or len(parts) == 2
    assert len(some.workload.files) == (outcome.outcome == OK)


def test_a_service_that_knows_no_parts_gets_its_files_whole(users, server):
    server.faults.no_parts = True
    some = users(resumed=1.0)
    done = [some.upload(SIZE) for _ in range(3)]
    assert {result for _, _, result in done} == {Outcome(OK)}
    assert server.requests["PUT"] == 3
    assert some.workload.in_parts == 0
    # Beside the tokens of three accounts: asked once, and never again.
    assert server.requests["POST"] == 3 + 1


def test_an_upload_in_parts_that_runs_out_of_time_is_not_tried_on(users, server):
    some = users(resumed=1.0, interrupted=0.0)
    some.timeout_s = 0.2
    some.store(1)
    server.faults.methods = frozenset({"PATCH"})
    server.faults.hang = True
    _, _, result = some.upload(SIZE)
    assert result == Outcome(FAILED, "timeout")
    assert server.requests["HEAD"] == 0
