"""A curve, its sum and the inverse of its sum agree."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.plan.rates import Curve, Piece, constant, diurnal, ramp, spike, steps

rates = st.floats(0, 1e5)
pieces = st.builds(Piece, st.floats(0.1, 1e4), rates, rates)
curves = st.builds(
    lambda some, last: Curve((*some, Piece(10, last, last))),
    st.lists(pieces, max_size=6),
    st.floats(0.1, 1e5),
)


@given(curves, st.floats(0, 1e5))
def test_the_instant_of_an_arrival_is_when_the_sum_reaches_it(
    curve: Curve, arrivals: float
) -> None:
    instant_s = curve.instant_s(arrivals)
    assert instant_s >= 0
    assert curve.arrivals_by(instant_s) == pytest.approx(arrivals, rel=1e-6, abs=1e-3)


#: Figures so small that their product is none at all.
NEXT_TO_NOTHING = Curve((Piece(1.0, 2.2e-309, 2e-59), Piece(10, 1, 1)))


@given(curves, st.lists(st.floats(0, 1e5), min_size=2))
@example(NEXT_TO_NOTHING, [5.4e-162, 2.2e-313])
def test_instants_are_in_order(curve: Curve, sums: list[float]) -> None:
    instants = [curve.instant_s(arrivals) for arrivals in sorted(sums)]
    assert instants == sorted(instants)


@given(curves, st.floats(0, 1e5), st.floats(0, 100))
def test_the_sum_never_falls_and_never_grows_faster_than_the_peak(
    curve: Curve, t_s: float, more_s: float
) -> None:
    grown = curve.arrivals_by(t_s + more_s) - curve.arrivals_by(t_s)
    assert -1e-3 <= grown <= curve.peak * more_s * (1 + 1e-9) + 1e-3


def at(curve: Curve, *instants_s: float) -> list[float]:
    return [round(curve.rate_at(t_s), 6) for t_s in instants_s]


def test_the_shapes_are_what_they_are_called() -> None:
    assert at(constant(5), 0, 1, 99) == [5, 5, 5]
    assert at(ramp(10, 30, 20), 0, 5, 20, 99) == [10, 15, 30, 30]
    assert at(steps(((10, 5), (20, 5))), 0, 4.9, 5, 99) == [10, 10, 20, 20]
    assert at(spike(10, 90, at_s=30, for_s=5), 0, 30, 34.9, 35, 99) == [10, 90, 90, 10, 10]
    day = diurnal(10, 30, period_s=96, peak_s=24)
    assert at(day, 0, 24, 48, 72, 96, 500) == [20, 30, 20, 10, 20, 20]
    assert day.arrivals_by(96) == pytest.approx(20 * 96)


def test_what_is_constant_is_known() -> None:
    assert constant(5).is_constant
    assert steps(((5, 1), (5, 9))).is_constant
    assert not ramp(5, 6, 1).is_constant
    assert ramp(5, 6, 1).peak == 6


@pytest.mark.parametrize(
    "pieces",
    [(), (Piece(0, 1, 1),), (Piece(-1, 1, 1),), (Piece(1, -1, 1),), (Piece(1, 1, 0),)],
)
def test_a_curve_that_makes_no_sense_is_refused(pieces: tuple[Piece, ...]) -> None:
    with pytest.raises(ValueError):
        Curve(pieces)
