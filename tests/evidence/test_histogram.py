"""The histogram is exact where it says so, and its error is what it says."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence import histogram as h


def by_definition(value_us: int) -> int:
    octave = math.floor(math.log2(value_us))
    return octave * 128 + math.floor((value_us - 2**octave) * 128 / 2**octave)


@pytest.mark.parametrize(
    ("value_us", "index"),
    [(1, 0), (2, 128), (3, 192), (128, 7 * 128), (2992, 1467), (200_000, 17 * 128 + 67)],
)
def test_an_index_is_what_the_format_says(value_us, index):
    assert h.index_of(value_us) == index == by_definition(value_us)


@given(st.integers(min_value=1, max_value=3_600_000_000))
def test_every_value_lies_in_its_bucket_and_near_its_middle(value_us):
    low, high = h.bounds_us(h.index_of(value_us))
    assert low <= value_us < high
    if value_us >= 128:
        assert abs((low + high) / 2 - value_us) / value_us <= 0.004


@given(st.lists(st.integers(min_value=1, max_value=2**32), min_size=2, max_size=20))
def test_indices_grow_with_the_values(values_us):
    indices = [h.index_of(v) for v in sorted(values_us)]
    assert indices == sorted(indices)


def test_buckets_above_128_us_touch_each_other_without_gap_or_overlap():
    for index in range(7 * 128, 30 * 128):
        assert h.bounds_us(index).high == h.bounds_us(index + 1).low


def test_a_value_below_a_microsecond_counts_as_one():
    histogram = {}
    h.record(histogram, 0.0)
    h.record(histogram, 0.000_000_4)
    assert histogram == {0: 2}


@given(st.lists(st.lists(st.integers(1, 10**7), max_size=30), max_size=5))
def test_merging_equals_counting_everything_in_one(parts):
    histograms = []
    for part in parts:
        histograms.append({})
        for value_us in part:
            h.record(histograms[-1], value_us / 1e6)
    together = {}
    for part in parts:
        for value_us in part:
            h.record(together, value_us / 1e6)
    assert h.merge(histograms) == together
    assert h.count(together) == sum(len(p) for p in parts)


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=200), st.floats(0, 1))
def test_the_true_quantile_lies_in_the_interval(values_us, q):
    histogram = {}
    for value_us in values_us:
        index = h.index_of(value_us)
        histogram[index] = histogram.get(index, 0) + 1
    rank = max(1, math.ceil(round(q * len(values_us), 6)))
    true_us = sorted(values_us)[rank - 1]
    low, high = h.quantile_us(histogram, q)
    assert low <= true_us < high


def test_the_95th_of_100_values_is_the_95th_and_not_the_96th():
    histogram = {h.index_of(v): 1 for v in (2**i for i in range(20))}
    assert h.quantile_us(histogram, 0.95).low == 2**18
    assert h.quantile_us(histogram, 1.0).low == 2**19
    assert h.quantile_us(histogram, 0.0).low == 1


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=100), st.integers(1, 10**6))
def test_the_true_fraction_below_a_threshold_lies_in_the_interval(values_us, threshold_us):
    histogram = h.merge({h.index_of(v): 1} for v in values_us)
    true = sum(v <= threshold_us for v in values_us) / len(values_us)
    low, high = h.fraction_below(histogram, threshold_us)
    assert low <= true <= high


def test_only_the_bucket_the_threshold_cuts_is_in_doubt():
    histogram = {h.index_of(100_000): 90, h.index_of(200_000): 6, h.index_of(300_000): 4}
    assert h.fraction_below(histogram, 200_000) == (0.90, 0.96)
    assert h.fraction_below(histogram, 250_000) == (0.96, 0.96)


def test_nothing_counted_has_no_quantile_and_no_fraction():
    assert h.quantile_us({}, 0.95) is None
    assert h.fraction_below({}, 200_000) is None


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        h.quantile_us({0: 1}, 95)
    with pytest.raises(ValueError, match="negative"):
        h.bounds_us(-1)
    with pytest.raises(ValueError):
        h.from_json({"p95": 1})


def test_a_histogram_survives_json():
    source = random.Random(7)
    histogram = {}
    for _ in range(500):
        h.record(histogram, source.lognormvariate(-5, 1))
    assert h.from_json(json.loads(json.dumps(h.to_json(histogram)))) == histogram
