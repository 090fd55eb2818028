"""Quantiles against published tables."""

from __future__ import annotations

import pytest

from harness.verdict.intervals import (
    poisson_at_most,
    poisson_lower,
    poisson_upper,
    student_at_most,
    student_quantile,
)


@pytest.mark.parametrize(
    ("df", "low", "high"),
    # χ² at 0.05 and 0.95, as in any table of it.
    [(2, 0.102587, 5.991465), (4, 0.710723, 9.487729), (10, 3.940299, 18.307038),
     (20, 10.850811, 31.410433), (100, 77.929465, 124.342113)],
)  # fmt: skip
def test_poisson_bounds_are_half_the_quantiles_of_chi_squared(
    df: int, low: float, high: float
) -> None:
    assert 2 * poisson_upper(df // 2 - 1) == pytest.approx(high, abs=1e-5)
    assert 2 * poisson_lower(df // 2) == pytest.approx(low, abs=1e-5)


def test_no_event_bounds_from_above_only() -> None:
    assert poisson_lower(0) == 0
    assert poisson_upper(0) == pytest.approx(2.995732, abs=1e-6)
    assert poisson_at_most(-1, 3.0) == 0
    assert poisson_at_most(0, 0.0) == 1
    # Rounding would make this sum 1 + 2⁻⁵².
    assert poisson_at_most(26, 3.0) == 1
    assert poisson_at_most(5000, 5000.0) == pytest.approx(0.50376, abs=1e-4)


@pytest.mark.parametrize(
    ("df", "p95", "p80"),
    [(1, 6.313752, 1.376382), (2, 2.919986, 1.060660), (3, 2.353363, 0.978472),
     (4, 2.131847, 0.940965), (9, 1.833113, 0.883404), (30, 1.697261, 0.853767)],
)  # fmt: skip
def test_quantiles_of_students_t_are_those_of_the_tables(df: int, p95: float, p80: float) -> None:
    assert student_quantile(0.95, df) == pytest.approx(p95, abs=1e-5)
    assert student_quantile(0.80, df) == pytest.approx(p80, abs=1e-5)
    assert student_at_most(0.0, df) == 0.5
