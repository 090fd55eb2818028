"""Bounds of a share against sums over binomial coefficients and published intervals."""

from __future__ import annotations

import math

import pytest

from harness.verdict.proportions import at_most_probability, share_at_least, share_at_most


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("found", "n"), [(0, 1), (0, 10), (1, 10), (2, 10), (9, 10), (30, 40)])
def test_the_probability_is_the_sum_of_the_binomial_terms(found: int, n: int, share: float) -> None:
    terms = (math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(found + 1))
    assert at_most_probability(found, n, share) == pytest.approx(math.fsum(terms), rel=1e-9)


@pytest.mark.parametrize(
    ("found", "n", "share", "probability"),
    [
        (5, 5, 0.5, 1.0),
        (6, 5, 0.5, 1.0),
        (5, 5, 1.0, 1.0),
        (0, 5, 0.0, 1.0),
        (0, 0, 0.5, 1.0),
        (4, 5, 1.0, 0.0),
        (-1, 5, 0.5, 0.0),
    ],
)
def test_what_is_sure_has_no_logarithm(
    found: int, n: int, share: float, probability: float
) -> None:
    assert at_most_probability(found, n, share) == probability


def test_a_probability_is_never_above_one() -> None:
    # Rounding would make this sum more by some 10⁻¹⁵.
    assert at_most_probability(29, 30, 0.25) == 1.0


@pytest.mark.parametrize(
    ("found", "n", "low", "high"),
    # Two-sided at 90 %, as in any table of Clopper and Pearson.
    [(0, 10, 0.0, 0.258866), (1, 10, 0.005116, 0.394163), (2, 10, 0.036771, 0.506901),
     (5, 10, 0.222441, 0.777559), (9, 10, 0.605837, 0.994884), (10, 10, 0.741134, 1.0),
     (5, 100, 0.019906, 0.102253), (0, 1, 0.0, 0.95), (1, 1, 0.05, 1.0)],
)  # fmt: skip
def test_the_bounds_are_those_of_the_tables(found: int, n: int, low: float, high: float) -> None:
    assert share_at_least(found, n, 0.95) == pytest.approx(low, abs=1e-6)
    assert share_at_most(found, n, 0.95) == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_at_the_bound_so_few_are_as_likely_as_the_confidence_leaves(confidence: float) -> None:
    bound = share_at_most(3, 50, confidence)
    assert at_most_probability(3, 50, bound) == pytest.approx(1 - confidence, rel=1e-9)
    assert share_at_least(47, 50, confidence) == pytest.approx(1 - bound, rel=1e-12)


def test_an_empty_sample_bounds_nothing_and_a_share_found_is_between_its_bounds() -> None:
    assert (share_at_least(0, 0, 0.95), share_at_most(0, 0, 0.95)) == (0.0, 1.0)
    assert share_at_most(7, 5, 0.95) == 1.0
    for found in range(11):
        assert share_at_least(found, 10, 0.95) <= found / 10 <= share_at_most(found, 10, 0.95)
