"""Less evidence never makes a better verdict."""

from __future__ import annotations

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evidence.journal import END
from harness.verdict import Outcome, judge
from tests.verdict.build import LAST, Day, plan

WRONG: dict[str, dict[str, object]] = {
    "right": {},
    "dns": {"dns_fails_over": False},
    "database": {"db_promoted": False},
    "pods": {"pods_replaced": False},
    "balancer": {"balancer_turns_away": False},
    "landing": {"landed": False},
    "undo": {"undone": False},
    "outage": {"outage": range(30, 33)},
    "slow": {"latency_s": 0.3},
}
few = settings(max_examples=30, derandomize=True, deadline=None, database=None)


@functools.cache
def outcome_of(name: str) -> Outcome:
    return judge(plan(), Day(**WRONG[name]).evidence()).outcome  # type: ignore[arg-type]


def test_only_the_right_day_passes() -> None:
    assert [name for name in WRONG if outcome_of(name) is Outcome.PASS] == ["right"]


@few
@given(name=st.sampled_from(sorted(WRONG)), offset=st.integers(0, LAST - 1))
def test_a_second_less_of_tallies_is_never_a_pass(name: str, offset: int) -> None:
    day = Day(**WRONG[name])  # type: ignore[arg-type]
    del day.seconds[offset]
    assert judge(plan(), day.evidence()).outcome is not Outcome.PASS


@few
@given(name=st.sampled_from(sorted(WRONG)), data=st.data())
def test_a_line_of_the_history_less_is_never_a_pass(name: str, data: st.DataObject) -> None:
    day = Day(**WRONG[name])  # type: ignore[arg-type]
    lines = day.lines()
    index = data.draw(st.integers(0, len(lines) - 1))
    left = lines[:index] + lines[index + 1 :]
    assert judge(plan(), day.evidence(left)).outcome is not Outcome.PASS


def test_a_source_without_its_closing_line_is_never_a_pass() -> None:
    day = Day()
    lines = day.lines()
    for end in [event for event in lines if event.kind == END]:
        left = [event for event in lines if event is not end]
        assert judge(plan(), day.evidence(left)).outcome is Outcome.UNKNOWN, end.source


@few
@given(name=st.sampled_from(sorted(WRONG)), order=st.randoms(use_true_random=False))
def test_the_order_in_which_files_are_read_changes_no_byte(name: str, order: object) -> None:
    day = Day(**WRONG[name])  # type: ignore[arg-type]
    first = judge(plan(), day.evidence()).to_bytes()
    order.shuffle(day.ledger)  # type: ignore[attr-defined]
    names = list(day.readbacks)
    order.shuffle(names)  # type: ignore[attr-defined]
    day.readbacks = {name: day.readbacks[name] for name in names}
    assert judge(plan(), day.evidence()).to_bytes() == first
