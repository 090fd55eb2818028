"""What a generator writes down of objects, and keeps of them, is bounded whatever the rate."""

from __future__ import annotations

import json

import pytest

from harness.clock import SystemClock
from harness.evidence.following import FOLLOWED_AT_MOST, halvings, is_followed
from harness.evidence.journal import Journal
from harness.load import ledger
from harness.load.ledger import Ledger


class Lines:
    """A pen that keeps what it wrote."""

    def __init__(self):
        self.lines = []

    def write(self, kind, /, **data):
        self.lines.append({"kind": kind, **data})

    def close(self):
        pass


def write(pen: Ledger, *names: str) -> None:
    for name in names:
        pen.write(
            name, "upload", sha256="s", size_bytes=1, planned_t=1.0, outcome="ok", ack_t=2.0,
            region="r",
        )  # fmt: skip


def names_of(n: int) -> list[str]:
    return [f"run-w0-f-{i:06d}" for i in range(n)]


def test_every_object_is_followed_while_they_are_few():
    pen = Lines()
    write(Ledger(pen, at_most=100), *names_of(100))
    assert len(pen.lines) == 100
    assert {line["kind"] for line in pen.lines} == {"write"}


def test_a_ledger_keeps_a_bounded_number_of_objects_however_many_are_written():
    # 40 objects for each that may be followed: an hour of 10,000 requests/s with 12 % uploads
    # is 108 for each of FOLLOWED_AT_MOST.
    pen = Lines()
    one = Ledger(pen, at_most=500)
    write(one, *names_of(20_000))
    followed = [line for line in pen.lines if line.get("kind") == "write"]
    left = [line for line in followed if is_followed(line["object"], one.share)]
    assert 150 < len(left) <= 500
    assert one.share == 1 / 64
    # Each halving lets half as many again be written: with 6 of them, at most four times as many.
    assert len(pen.lines) < 500 * (1 + 6 / 2) * 1.1
    # All that is kept in memory: a number for each time the share may still be halved.
    assert len(one._until) < 65


def test_the_same_objects_are_followed_by_every_share():
    every = names_of(4096)
    shares = [{n for n in every if is_followed(n, 0.5**k)} for k in range(4)]
    assert shares[3] < shares[2] < shares[1] < shares[0] == set(every)
    assert {n for n in every if halvings(n) >= 2} == shares[2]


def test_a_share_is_chosen_by_chance_and_not_by_the_order_of_names():
    for share in (0.5, 0.125):
        every = names_of(20_000)
        found = [is_followed(name, share) for name in every]
        spread = 5 * (20_000 * share * (1 - share)) ** 0.5
        assert abs(sum(found) - 20_000 * share) < spread
        assert abs(sum(found[::2]) - sum(found[1::2])) < 2 * spread


def test_the_delete_of_an_object_that_is_not_followed_is_not_written():
    pen = Lines()
    one = Ledger(pen, at_most=1)
    write(one, *names_of(50))
    before = len(pen.lines)
    for name in names_of(50):
        one.delete(name, outcome="ok", ack_t=3.0, region="r")
    deleted = {line["object"] for line in pen.lines[before:]}
    assert deleted == {name for name in names_of(50) if is_followed(name, one.share)}


@pytest.fixture
def two(tmp_path):
    """The ledgers of two generators, of which one had to halve its share."""
    for worker, at_most in (("w0", 10), ("w1", 1000)):
        pen = Journal(tmp_path / "ledger" / f"{worker}.jsonl", f"ledger/{worker}", SystemClock())
        one = Ledger(pen, at_most=at_most)
        write(one, *(f"{worker}-{n:04d}" for n in range(40)))
        one.close()
    return tmp_path


def test_of_several_generators_the_smallest_share_is_followed(two):
    lines = (two / "ledger" / "w0.jsonl").read_text().splitlines()
    share = min(json.loads(line).get("share", 1.0) for line in lines)
    found = {item.object_id for item in ledger.stored(two)}
    every = [f"{worker}-{n:04d}" for worker in ("w0", "w1") for n in range(40)]
    assert share < 1
    assert found == {name for name in every if is_followed(name, share)}
    assert any(name.startswith("w1") for name in found)


def test_an_upload_that_failed_is_expected_by_nobody():
    line = {"kind": "write", "object": "a", "sha256": "x", "size_bytes": 1, "ack_t": 7.0}
    [state] = ledger.fold([{**line, "outcome": "failed"}])
    assert (state.expected, state.ack_t) == (ledger.NEVER_STORED, 7.0)
    [state] = ledger.fold([{**line, "outcome": "acked"}, {**line, "outcome": "failed"}])
    assert state.expected == ledger.MUST_BE_PRESENT


def test_the_bound_says_what_it_can_show():
    # 3/n: with none of so many lost, at most one in 13,000 was.
    assert 1 / 13_500 < 3 / FOLLOWED_AT_MOST < 1 / 13_000
