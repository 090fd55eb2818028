"""Which series an expression reads."""

from __future__ import annotations

import pytest

from harness.target.promql import metric_names, selectors


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("up", ("up",)),
        ('up{job="a"}', ('up{job="a"}',)),
        ('{__name__=~"a|b", x="}"}', ('{__name__=~"a|b", x="}"}',)),
        ("rate(a_total[5m]) / rate(b_total[5m])", ("a_total", "b_total")),
        ("sum by (zone, code) (rate(a:b[1m30s]))", ("a:b",)),
        ('sum(rate(a{c=~"5.."}[10s])) by (zone)', ('a{c=~"5.."}',)),
        ("a * on(x) group_left(y) b", ("a", "b")),
        ("a and ignoring (x) b unless c or vector(0)", ("a", "b", "c")),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[30s])))", ("h_bucket",)),
        ("max_over_time(rate(a[1m])[5m:10s]) > bool 1e3", ("a",)),
        ("a offset 5m - a @ 1609746000 + 0x1F * -Inf + NaN", ("a",)),
        ("a # b\n + c", ("a", "c")),
        ("a / a", ("a",)),
        ("topk by (x) (3, a)", ("a",)),
        ('label_replace(a, "b", "$1", "c", "(.*)")', ("a",)),
        ("a{", ("a{",)),
        ("1 + 1", ()),
        ("time() - 5m", ()),
        ("", ()),
    ],
)
def test_selectors_are_found_and_nothing_else(query: str, found: tuple[str, ...]) -> None:
    assert selectors(query) == found


def test_metrics_are_known_by_name_where_they_have_one() -> None:
    assert metric_names('sum(rate(a{b="c"}[1m])) / sum({d="e"})') == ("a",)
