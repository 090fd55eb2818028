"""An alert's fingerprint is the one Prometheus and Alertmanager give it."""

from __future__ import annotations

import pytest

from harness.evidence.deliveries import Delivery, fingerprint, labels_of


def test_it_is_what_prometheus_says_of_its_own_examples() -> None:
    assert fingerprint({}) == "cbf29ce484222325"
    example = {"name": "garland, briggs", "fear": "love is not enough"}
    assert int(fingerprint(example), 16) == 5799056148416392346


def test_it_depends_on_names_values_and_where_one_ends_but_not_on_the_order() -> None:
    a = {"alertname": "ServiceDown", "zone": "us-east-1a"}
    assert fingerprint(a) == fingerprint(dict(reversed(a.items())))
    others = [
        {"alertname": "ServiceDown", "zone": "us-east-1b"},
        {"alertname": "ServiceDown", "zonE": "us-east-1a"},
        {"alertnameS": "erviceDown", "zone": "us-east-1a"},
        {"alertname": "ServiceDown"},
    ]
    assert len({fingerprint(labels) for labels in (a, *others)}) == 5


@pytest.mark.parametrize(
    ("subject", "labels"),
    [
        ("alert:RegionDown/region=a,severity=critical", {"region": "a", "severity": "critical"}),
        ("alertmanager:RegionDown/", {}),
        ("alert:RegionDown/instance=10.0.0.1:80,pod=a=b, c", {"instance": "10.0.0.1:80",
                                                              "pod": "a=b, c"}),
    ],
)  # fmt: skip
def test_labels_are_read_back_from_a_subject(subject: str, labels: dict[str, str]) -> None:
    assert labels_of(subject) == {"alertname": "RegionDown", **labels}


def test_where_there_is_no_fingerprint_name_values_and_group_tell_alerts_apart() -> None:
    def told(words: tuple[str, ...], group: str = "g") -> Delivery:
        return Delivery("slack", "firing", 0.0, {"alertname": "A"}, "", "title", words, group)

    assert told(("x",)).key == told(("x",)).key
    assert len({told(("x",)).key, told(("y",)).key, told(("x",), "h").key}) == 3
