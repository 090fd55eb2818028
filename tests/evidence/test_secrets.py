"""Secrets are found by where they stand, and masked however they are written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import secrets
from harness.clock import ManualClock
from harness.evidence.journal import Journal
from harness.evidence.run import write_atomic


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    before = set(secrets._known)
    secrets.forget()
    yield
    secrets.forget()
    secrets.learn(before)


@given(
    value=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=8),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_no_form_of_a_known_secret_is_left(value: str, before: bytes, after: bytes) -> None:
    secrets.forget()
    secrets.learn([value])
    for form in (value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1]):
        assert form not in secrets.redact(f"see {form}, and {form}")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(before + value.encode() + after).decode()
        whole_of_it = whole[(len(before) + 2) // 3 * 4 : (len(before) + len(value)) // 3 * 4]
        if len(whole_of_it) >= secrets.SHORTEST:
            assert whole_of_it not in secrets.redact(f"Basic {whole}")


def test_secrets_are_found_by_the_names_of_settings_and_in_urls() -> None:
    settings = {
        "AWS_SECRET_ACCESS_KEY": "one", "GITHUB_TOKEN": "two", "password": "three",
        "nested": {"api-key": "four", "list": ["https://u:five%21@host/?token=six"]},
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/file", "AWS_REGION": "us-east-1", "rate": 5,
    }  # fmt: skip
    found = set(secrets.in_mapping(settings))
    assert found >= {"one", "two", "three", "four", "five!", "six"}
    assert not found & {"/run/file", "us-east-1", "host"}
    named = {"secrets": {"a": {"KUBERNETES_CONTEXT": "us-east-1a", "token": "seven"}}}
    used = {"provider": {"secrets": ["us-east-1a"]}}
    assert set(secrets.in_mapping({**named, **used})) == {"seven"}


def test_short_words_are_left_in_peace() -> None:
    secrets.learn(["lab", "hunter2"])
    assert secrets.redact("the lab of hunter2") == "the lab of hunter2"


def test_what_is_written_is_masked_and_stays_what_it_is(tmp_path: Path) -> None:
    secrets.learn(['a"very\\secret'])
    journal = Journal(tmp_path / "j.jsonl", "x", ManualClock())
    journal.write("fault.made", error='boom: a"very\\secret')
    journal.close()
    line = json.loads((tmp_path / "j.jsonl").read_text().splitlines()[0])
    assert line["error"] == "boom: [redacted]"
    write_atomic(tmp_path / "r.html", b'<p>a"very\\secret</p>')
    assert (tmp_path / "r.html").read_bytes() == b"<p>[redacted]</p>"
    (tmp_path / "log").write_bytes(b'\xff a"very\\secret \xfe\n')
    secrets.scrub([tmp_path / "log", tmp_path / "missing"])
    assert (tmp_path / "log").read_bytes() == b"\xff [redacted] \xfe\n"
