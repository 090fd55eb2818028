"""Counts add up, lines are written as they should be, marks come at the right moment."""

from __future__ import annotations

import pytest

from harness.evidence import histogram
from harness.load.marks import Marks
from harness.load.objects import KEEP_AT_LEAST, KnownObjects, StoredObject
from harness.load.tally import Tally

OK = ("download", ("us-east-1", "us-east-1a"), ("ok", ""))


class Lines:
    """A pen that keeps what it is given."""

    def __init__(self):
        self.lines = []
        self.closed = False

    def write(self, kind, /, *, t=None, **data):
        self.lines.append({"kind": kind, "t": t, **data})

    def close(self):
        self.closed = True


@pytest.fixture
def pen():
    return Lines()


def test_an_arrival_is_planned_before_it_is_sent_and_counted_in_its_own_second(pen):
    tally = Tally(pen, [0.2])
    tally.took_off(1700000000.9, 0.001)
    tally.flush()
    tally.done(1700000000.9, *OK, 10, 0.25, 0.2)
    tally.flush()
    first, second = pen.lines
    assert first["seconds"] == {"1700000000": {"planned": 1, "cells": []}}
    assert first["in_flight"] == 1
    assert first["lateness"] == {str(histogram.index_of(1000)): 1}
    assert second["seconds"]["1700000000"]["planned"] == 0
    assert second["seconds"]["1700000000"]["cells"] == [
        {
            "op": "download",
            "region": "us-east-1",
            "zone": "us-east-1a",
            "outcome": "ok",
            "error": "",
            "n": 1,
            "bytes": 10,
            "latency": {str(histogram.index_of(250_000)): 1},
            "service": {str(histogram.index_of(200_000)): 1},
            "below": {"0.2": 0},
        }
    ]
    assert second["in_flight"] == 0


def test_a_latency_at_the_threshold_is_below_it(pen):
    tally = Tally(pen, [0.2, 1.0])
    for latency_s in (0.1, 0.2, 0.200001, 0.9):
        tally.took_off(5.0, 0.0)
        tally.done(5.0, *OK, 0, latency_s, latency_s)
    tally.flush()
    assert pen.lines[0]["seconds"]["5"]["cells"][0]["below"] == {"0.2": 2, "1.0": 4}


def test_what_was_not_sent_has_no_latency(pen):
    tally = Tally(pen, [0.2])
    tally.planned(5.0)
    tally.not_sent(5.0, "download", "too-many-in-flight")
    tally.took_off(5.1, 0.0)
    tally.withdrawn(5.1, "delete", "no-object")
    tally.end()
    cells = pen.lines[0]["seconds"]["5"]["cells"]
    assert [(c["op"], c["outcome"], c["error"], c["n"], c["latency"]) for c in cells] == [
        ("delete", "not_sent", "no-object", 1, {}),
        ("download", "not_sent", "too-many-in-flight", 1, {}),
    ]
    end = pen.lines[-1]
    assert (end["planned"], end["sent"], end["not_sent"], end["in_flight"]) == (2, 0, 2, 0)
    assert pen.closed


def test_the_first_success_of_another_region_is_marked_once(pen):
    marks = Marks(pen)
    marks.success(10.0, "download", "east", "", is_write=False)
    marks.success(10.5, "download", "east", "", is_write=False)
    marks.success(12.0, "list", "west", "", is_write=False)
    marks.success(12.1, "download", "west", "", is_write=False)
    found = [(m["t"], m["from"], m["to"], m["op"]) for m in pen.lines]
    assert found == [(10.0, "", "east", "download"), (12.0, "east", "west", "list")]


def test_regions_that_answer_in_turns_are_not_marked_with_every_request(pen):
    marks = Marks(pen)
    for n in range(100):
        marks.success(10 + n / 10, "download", ("east", "west")[n % 2], "", is_write=False)
    assert len(pen.lines) == 2


def test_the_first_write_after_a_second_without_is_marked_per_region(pen):
    marks = Marks(pen)
    for t, region in ((10.0, "east"), (10.9, "east"), (12.0, "west"), (12.5, "west"), (20, "west")):
        marks.success(t, "upload", region, "", is_write=True)
    writes = [(m["t"], m["region"]) for m in pen.lines if m["kind"] == "mark.first_write"]
    assert writes == [(10.0, "east"), (12.0, "west"), (20, "west")]


def test_a_zone_that_stops_serving_leaves_the_set_after_enough_others_served(pen):
    marks = Marks(pen)
    for n in range(100):
        zone = "b" if n >= 20 or n % 2 else "a"
        marks.success(10 + n / 10, "download", "east", zone, is_write=False)
    zones = [(m["from"], m["to"]) for m in pen.lines if m["kind"] == "mark.zones"]
    assert zones == [([], ["a"]), (["a"], ["a", "b"]), (["a", "b"], ["b"])]


def test_what_a_cache_answers_is_no_mark_of_a_region(pen):
    marks = Marks(pen)
    marks.success(10.0, "download", "east", "a", is_write=False)
    for n in range(100):
        marks.success(10.0 + n / 10, "download", "edge", "", is_write=False)
    marks.success(25.0, "download", "west", "c", is_write=False)
    found = [(m["from"], m["to"]) for m in pen.lines if m["kind"] == "mark.region"]
    assert found == [("", "east"), ("east", "west")]


class _Half:
    def random(self):
        return 0.5

    def randrange(self, low, high):
        return low


def known(n):
    objects = KnownObjects(_Half())
    for i in range(n):
        objects.add(StoredObject(f"o{i}", "", 1))
    return objects


def test_an_object_taken_for_delete_is_never_given_again():
    objects = known(4)
    taken = objects.take_for_delete()
    assert taken.object_id == "o2"
    assert len(objects) == 3
    assert objects.take_for_delete().object_id != "o2"


def test_an_object_in_use_is_not_deleted():
    objects = known(1)
    objects.popular().users += 1
    assert objects.take_for_delete() is None


def test_a_lost_object_is_forgotten_but_never_all_of_them():
    objects = known(KEEP_AT_LEAST + 1)
    for _ in range(5):
        objects.forget(objects.popular())
    assert len(objects) == KEEP_AT_LEAST


def many(tally: Tally, n: int) -> None:
    """Counts of ``n`` operations over two seconds, each with hundreds of durations."""
    for i in range(n):
        for ms in range(1, 200):
            t = 5.0 + i % 2
            tally.took_off(t, ms / 1e5)
            tally.done(t, f"op{i}", *OK[1:], 10, ms / 1e3, ms / 1e3)


def added_up(lines: list[dict]) -> dict:
    """All that tally lines tell, whichever of them tells it."""
    found: dict = {"planned": {}, "cells": {}, "late": {}}
    for line in lines:
        for t, second in line["seconds"].items():
            found["planned"][t] = found["planned"].get(t, 0) + second["planned"]
            for cell in second["cells"]:
                key = (t, cell["op"])
                assert key not in found["cells"]
                found["cells"][key] = cell
        found["late"].update(line["lateness"])
    return found


def test_much_is_written_in_pieces_that_add_up_to_the_whole():
    whole, pieces = Lines(), Lines()
    of_one, of_many = Tally(whole, [0.2]), Tally(pieces, [0.2])
    many(of_one, 9)
    many(of_many, 9)
    of_one.flush()
    turns = 0
    for _ in of_many.flushing():
        turns += 1
        # What is counted in between is not of this flush.
        of_many.took_off(6.5, 0.0)
    assert added_up(pieces.lines) == added_up(whole.lines)
    assert len(added_up(whole.lines)["cells"]) == 9
    assert turns == len(pieces.lines) >= 9
    # What fell due is told first: a reader never knows of more outcomes than arrivals.
    assert [sum(s["planned"] for s in line["seconds"].values()) for line in pieces.lines] == [
        9 * 199,
        *[0] * (turns - 1),
    ]
    of_many.flush()
    assert pieces.lines[-1]["seconds"]["6"]["planned"] == turns
    for line in pieces.lines:
        cells = [cell for second in line["seconds"].values() for cell in second["cells"]]
        assert sum(len(cell["latency"]) for cell in cells) <= 2 * 199


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_flush_that_is_given_up_writes_the_rest_at_once(after):
    pen, whole = Lines(), Lines()
    tally, other = Tally(pen, [0.2]), Tally(whole, [0.2])
    many(tally, 9)
    many(other, 9)
    other.flush()
    turns = tally.flushing()
    for _ in range(after):
        next(turns)
    turns.close()
    tally.end()
    written = [line for line in pen.lines if line["kind"] == "tally"]
    assert added_up(written) == added_up(whole.lines)


def test_each_line_tells_what_it_is_asked_to():
    pen = Lines()
    tally = Tally(pen, [0.2])
    many(tally, 5)
    spent = iter(range(100))
    tally.flush(lambda: {"cpu_s": next(spent)})
    assert [line["cpu_s"] for line in pen.lines] == list(range(len(pen.lines)))
    assert len(pen.lines) > 1
