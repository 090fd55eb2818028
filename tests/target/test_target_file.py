"""A target file is read exactly or refused with the place and what to try."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_target import sample

from harness.errors import PlanInvalid
from harness.target.model import Access, AlertReceivers, Identity
from harness.target.reader import read_target, write_target

EXAMPLE = Path(__file__).parents[2] / "docs" / "target-example.yaml"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dns_server": None, "hosted_zone_id": None, "aws_endpoint_url": None},
        {"account": "000000000012", "time_scale": 1.0, "not_simulated": ("NAT: no", "yes")},
        {"alert_receivers": AlertReceivers("a" * 16, {"mail": "email"}, smtp="127.0.0.1:2525")},
        {"access": Access(Identity(), Identity(service_account=None), Identity())},
        {"access": Access(*[Identity(f"arn:aws:iam::123456789012:role/{p}", "id") for p in "oiu"])},
        {"environment": {"A": "1", "B": "null", "C": "a: b #c"}, "databases": ()},
    ],
)
def test_what_is_written_is_read_back_equal(tmp_path: Path, changes: dict) -> None:
    path = tmp_path / "target.yaml"
    write_target(sample(**changes), path)
    assert read_target(path) == sample(**changes)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_documented_example_is_valid() -> None:
    target = read_target(EXAMPLE)
    assert target.account == "123456789012"
    assert target.region("us-east-1").subnets["us-east-1b"] == ("subnet-0bbb",)
    assert target.cluster("us-west-2").nodes == 6


def test_a_relative_kubeconfig_counts_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "target.yaml"
    write_target(sample(kubeconfig="kube/config"), path)
    assert read_target(path).kubeconfig == str(tmp_path / "kube/config")


ROLE = "  undo:\n    role_arn: arn:aws:iam::123456789012:role/harness-"
ID = "    external_id: use-uuidgen\n"
UNDO = f"{ROLE}undo\n{ID}    service_account: harness/harness-undo\n"
WRONG = {
    "an unknown key": ("namespace: files", "namespaces: files", "namespaces", "`namespace`"),
    "an unknown key of a region": (", zone: us-east-1a, nodes", ", zon: x, nodes", "zon", "`zone`"),
    "an unquoted account": ('"123456789012"', "123456789012", "account", "quotes"),
    "a word for a number": ("time_scale: 1 ", "time_scale: fast ", "time_scale", "example"),
    "a yes for a number": ("time_scale: 1 ", "time_scale: true ", "time_scale", "example"),
    "a missing key": ("namespace: files", "", "namespace", "example"),
    "a primary nobody describes": ("primary: us-east-1", "primary: eu-1", "primary", "us-west-2"),
    "primary equal to standby": ("standby: us-west-2", "standby: us-east-1", "standby", "regions"),
    "a cluster nowhere": ("s-west-2, region: us-west-2", "s-west-2, region: x", "region", "reg"),
    "a cluster twice": ("{name: us-east-1b", "{name: us-east-1a", "name", "differ"),
    "a time scale below one": ("time_scale: 1 ", "time_scale: 0.5 ", "time_scale", "1"),
    "a URL without scheme": ("https://api.example.com", "api.example.com", "service_url", "http"),
    "a receiver for all to reach": ("http: 127.0.0.1", "http: 0.0.0.0", "http", "alerts.md"),
    "a receiver without port": ("http: 127.0.0.1:9095", "http: 127.0.0.1", "http", "alerts.md"),
    "a short token": ("token: use-openssl-rand-hex-16", "token: abc", "token", "openssl"),
    "mail without an SMTP address": ("smtp: 127.0.0.1:2525", "", "alert_receivers", "smtp: 127"),
    "an unknown kind of receiver": ("team: slack", "team: teams", "team", "example"),
    "an unknown key of the receivers": ("smtp: 127", "smpt: 127", "smpt", "`smtp`"),
    "no hours": ("Mon-Thu 09:00-16:00", "Mon-Thu 9-16", "allowed_hours.0", "write Mon-Fri"),
    "no freeze": (" to 2027-01-04T00:00", "", "freezes.0", "write 2026-11-24"),
    "nobody to approve": ("approvers: approvers\n", "", "production", "approvers"),
    "cloud metadata": ("prometheus.monitoring.example.com", "169.254.169.254", "url", "metadata"),
    "cloud metadata, in one number": ("prometheus.monitoring.example.com", "2852039166", "", "met"),
    "cloud metadata, mapped": ("https://api.example.com", "http://[::ffff:a9fe:a9fe]", "", "met"),
    "a link-local address": ("alertmanager.monitoring.example.com", "[fe80::1]", "url", "meta"),
    "an unknown purpose": ("  inject:\n", "  injekt:\n", "injekt", "`inject`"),
    "a purpose without identity": (UNDO, "", "access.undo", "example"),
    "an unknown key of an identity": ("role_arn: arn", "role_am: arn", "role_am", "`role_arn`"),
    "no role": (":role/harness-undo", ":user/harness-undo", "undo.role_arn", "role/harness-undo"),
    "a role of another account": ("2:role/harness-inject", "3:role/h", "inject.role_arn", "targ"),
    "a role for some only": (f"{ROLE}undo\n{ID}", "  undo:\n", "access.undo", "every purpose"),
    "an external id for no role": (f"{ROLE}undo\n", "  undo:\n", "undo.external_id", "role_arn"),
    "an external id of spaces": ("external_id: use-uuidgen", "external_id: a b", "_id", "uuidgen"),
    "no service account": ("harness/harness-undo", "harness-undo", "_account", "harness/harness-u"),
    "a duplicate key": ("simulated: false", "simulated: true\nsimulated: false", "", "example"),
    "not YAML": ("primary: us-east-1", "primary: [", "", "example"),
    "a list": (None, "- a\n- b\n", "", "example"),
    "nothing": (None, "", "", "example"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_with_its_place_and_a_hint(tmp_path: Path, case: str) -> None:
    old, new, key, hint = WRONG[case]
    text = EXAMPLE.read_text()
    assert old is None or old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(new if old is None else text.replace(old, new, 1))
    with pytest.raises(PlanInvalid) as caught:
        read_target(path)
    error = caught.value
    assert error.where is not None
    assert error.where.file == str(path)
    assert error.where.line is not None
    assert (error.where.key or "").endswith(key)
    assert hint in error.hint


def test_the_line_named_is_the_line_of_the_mistake(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().splitlines()
    line = next(i for i, text in enumerate(lines) if "eks-us-east-1b" in text)
    lines[line] = lines[line].replace("context:", "kontext:")
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(PlanInvalid) as caught:
        read_target(path)
    where = caught.value.where
    assert where is not None
    assert (where.line, where.key) == (line + 1, "clusters.1.kontext")
    assert where.column == lines[line].index("kontext") + 1


def test_a_file_that_is_not_there_is_a_plan_error(tmp_path: Path) -> None:
    with pytest.raises(PlanInvalid) as caught:
        read_target(tmp_path / "none.yaml")
    assert "lab up" in caught.value.hint
