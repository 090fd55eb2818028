"""When a network ACL lets nothing through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.lab.aws.state import denies_all


def rule(number: int, action: str, **more: Any) -> SimpleNamespace:
    values = {
        "rule_number": number,
        "rule_action": action,
        "protocol": "-1",
        "cidr_block": "0.0.0.0/0",
        "egress": False,
        "port_range_from": None,
        "port_range_to": None,
    }
    return SimpleNamespace(**{**values, **more})


@pytest.mark.parametrize(
    ("rules", "denied"),
    [
        ([rule(100, "allow"), rule(32767, "deny")], False),
        ([rule(1, "DENY"), rule(100, "allow")], True),
        ([rule(100, "allow"), rule(1, "deny")], True),
        ([rule(200, "deny"), rule(100, "allow")], False),
        ([], True),
        ([rule(32767, "deny")], True),
        ([rule(1, "deny", protocol="17"), rule(100, "allow")], False),
        ([rule(1, "deny", protocol="6"), rule(100, "allow")], True),
        ([rule(1, "deny", cidr_block="10.0.0.0/8"), rule(100, "allow")], False),
        (
            [
                rule(1, "deny", protocol="6", port_range_from=22, port_range_to=22),
                rule(100, "allow"),
            ],
            False,
        ),
        (
            [
                rule(1, "deny", protocol="6", port_range_from=0, port_range_to=65535),
                rule(100, "allow"),
            ],
            True,
        ),
        ([rule(1, "allow", cidr_block="10.0.0.0/8"), rule(2, "deny")], False),
        ([rule(1, "allow", protocol="17"), rule(2, "deny")], True),
        ([rule(1, "allow", egress=True)], True),
    ],
)
def test_rules_decide_in_the_order_of_their_numbers(
    rules: list[SimpleNamespace], denied: bool
) -> None:
    assert denies_all(rules, egress=False) is denied
