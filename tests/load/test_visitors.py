"""Users come, think and go as documented, and the same seed has the same users."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from itertools import islice

import pytest

from harness.load import visitors as visitors_module
from harness.load.arrivals import Schedule
from harness.load.objects import REVISIT, KnownObjects, StoredObject
from harness.load.visitors import (
    PATIENCE_S,
    REMEMBERED,
    THINK_SIGMA,
    Visitors,
    seen_now,
    think_times_s,
)
from harness.plan.behaviour import Behaviour
from harness.plan.rates import constant, steps

ACCOUNTS = ["a", "b", "c"]


def visitors(seed: int = 7, **behaviour) -> Visitors:
    return Visitors(Behaviour(**behaviour), random.Random(f"v:{seed}"), ACCOUNTS)


def instants(rate: float, n: int) -> list[float]:
    return list(islice(Schedule(constant(rate), "poisson", 7).offsets_s(), n))


def test_thinking_times_have_the_mean_asked_for_and_are_log_normal():
    times = think_times_s(7.0)
    assert statistics.fmean(times) == pytest.approx(7.0)
    median = statistics.median(times)
    # Of a log-normal distribution the mean is the median times e^(sigma²/2).
    assert 7.0 / median == pytest.approx(2.718281828 ** (THINK_SIGMA**2 / 2), rel=0.01)
    above = sum(t > median * 2.718281828**THINK_SIGMA for t in times) / len(times)
    assert above == pytest.approx(0.1587, abs=0.001)


def test_nobody_acts_before_its_thinking_is_over_and_every_arrival_has_a_user():
    users = visitors(think_s=2.0, steps=8)
    ready: dict[int, float] = {}
    waits = []
    for t in instants(100, 20_000):
        visitor = users.next(t)
        if visitor.number in ready:
            assert ready[visitor.number] <= t
            waits.append(t - ready[visitor.number])
        ready[visitor.number] = visitor.ready_t
    assert len(waits) > 15_000
    # Somebody is always about to be ready: users hardly wait beyond what they think.
    assert statistics.fmean(waits) < 0.5


def test_the_number_of_users_follows_the_rate_as_little_says():
    for rate, think_s, length in ((50, 4.0, 5), (400, 2.0, 20)):
        users = visitors(think_s=think_s, steps=length)
        there = []
        for i, t in enumerate(instants(rate, 40_000)):
            users.next(t)
            if t > 40 and i % 50 == 0:
                there.append(len(users))
        expected = rate * (1 - 1 / length) * think_s
        assert statistics.fmean(there) == pytest.approx(expected, rel=0.08)


def test_sessions_have_the_mean_length_and_are_geometric():
    users = visitors(think_s=0.5, steps=10)
    taken = Counter(users.next(t).number for t in instants(200, 60_000))
    # Sessions that began early enough to be over.
    over = [n for number, n in taken.items() if number < users.begun * 0.9]
    assert statistics.fmean(over) == pytest.approx(10, rel=0.05)
    assert sum(n == 1 for n in over) / len(over) == pytest.approx(0.1, abs=0.02)
    assert sum(n > 10 for n in over) / len(over) == pytest.approx(0.9**10, abs=0.03)


def test_the_same_seed_has_the_same_users_and_another_seed_others():
    def who(seed: int) -> list[int]:
        users = visitors(seed)
        return [users.next(t).number for t in instants(300, 5000)]

    assert who(7) == who(7)
    assert who(7) != who(8)


def test_whoever_waits_too_long_when_the_rate_falls_has_left():
    users = visitors(think_s=1.0, steps=50)
    curve = steps([(100.0, 30.0), (0.05, 4000.0)])
    for t in Schedule(curve, "even", 7, duration_s=2000).offsets_s():
        visitor = users.next(t)
        assert t - visitor.ready_t <= PATIENCE_S
    assert len(users) <= 3


def test_there_are_never_more_users_than_a_process_can_hold(monkeypatch):
    monkeypatch.setattr(visitors_module, "MOST", 100)
    users = visitors(think_s=10.0, steps=50)
    assert len({users.next(t).number for t in instants(100, 3000)}) > 1000
    assert len(users) == users.most == 100


def test_accounts_are_shared_evenly():
    users = visitors(steps=1)
    used = Counter(users.next(t).account for t in instants(10, 3000))
    assert used == {"a": 1000, "b": 1000, "c": 1000}
    assert len(users) == 0


def test_what_was_seen_last_is_remembered_first_and_not_twice():
    a, b, c, d, e, f = (StoredObject(name, "", 1) for name in "abcdef")
    memory: tuple[StoredObject, ...] = ()
    for stored in (a, b, c, d, e, b, f):
        memory = seen_now(stored, memory)
    assert [s.object_id for s in memory] == ["f", "b", "e", "d", "c"]
    assert len(memory) == REMEMBERED


# ---- what they ask for ---------------------------------------------------------------------------


def stored(n: int, **hot) -> KnownObjects:
    objects = KnownObjects(random.Random("objects:7"), **hot)
    for i in range(n):
        objects.add(StoredObject(f"o{i}", "", 1))
    return objects


def test_the_hot_share_goes_to_the_hot_objects_beside_their_popularity():
    def share(**hot) -> float:
        objects = stored(1000, **hot)
        asked = Counter(objects.popular().place for _ in range(40_000))
        return sum(asked[place] for place in range(3)) / 40_000

    plain = share()
    hot = share(hot_share=0.5, hot_objects=3)
    assert hot == pytest.approx(0.5 + 0.5 * plain, abs=0.01)


def test_a_user_looks_again_at_what_it_saw_and_most_often_at_the_latest():
    objects = stored(1000)
    memory = tuple(objects.get(f"o{i}") for i in (900, 901, 902, 903, 904))
    chosen = [objects.choose(memory) for _ in range(20_000)]
    again = Counter(found.object_id for found, seen in chosen if seen)
    assert sum(again.values()) / 20_000 == pytest.approx(REVISIT, abs=0.01)
    assert again["o900"] > again["o901"] > again["o904"] > 0


def test_nobody_looks_again_at_what_was_deleted():
    objects = stored(100)
    gone = objects.take_for_delete()
    assert gone.place == -1
    assert objects.get(gone.object_id) is None
    for _ in range(500):
        found, again = objects.choose((gone,))
        assert found is not gone
        assert not again


def test_known_objects_are_bounded_and_each_knows_its_place():
    objects = stored(500, at_most=100)
    assert len(objects) == 100
    for _ in range(30):
        objects.take_for_delete()
        objects.forget(objects.popular())
    for _ in range(2000):
        found = objects.popular()
        assert objects.get(found.object_id) is found
        assert 0 <= found.place < len(objects)
