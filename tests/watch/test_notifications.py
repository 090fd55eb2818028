"""What Alertmanager sends to each kind of receiver is read to the alerts it is about.

The bodies have the shape of what Alertmanager 0.25 sends with its default templates, and with a
trace line where the test says so.
"""

from __future__ import annotations

import json
from email.message import EmailMessage

import pytest

from harness.evidence.deliveries import fingerprint
from harness.watch.notifications import Told, read

AUTH = {"alertname": "ServiceDown", "app": "auth", "zone": "us-east-1a"}
FILE = {"alertname": "ServiceDown", "app": 'say "file" \\ \n <&>', "zone": "us-east-1a"}
TITLE = "[FIRING:2] ServiceDown us-east-1a (critical auth) "


def told(status: str, labels: dict[str, str], by: str = "fingerprint") -> Told:
    return Told(status, labels, fingerprint(labels), by)


def trace(status: str, labels: dict[str, str], given: str = "") -> str:
    pairs = " ".join(f"{k}={json.dumps(v)}" for k, v in sorted(labels.items()))
    return f"{status} {given or fingerprint(labels)} {pairs}\n"


def webhook(**changes: object) -> bytes:
    alerts = [
        {"status": "firing", "labels": AUTH, "annotations": {}, "fingerprint": fingerprint(AUTH)},
        {"status": "resolved", "labels": FILE, "annotations": {}, "fingerprint": fingerprint(FILE)},
    ]
    document = {"version": "4", "status": "firing", "receiver": "audit", "groupKey": "{}:{}",
                "alerts": alerts, "truncatedAlerts": 0, **changes}  # fmt: skip
    return json.dumps(document).encode()


def pagerduty(details: object, action: str = "trigger") -> bytes:
    payload = {"summary": TITLE, "source": "Alertmanager", "custom_details": details}
    event = {"routing_key": "lab", "dedup_key": "ab12", "event_action": action, "payload": payload}
    return json.dumps(event).encode()


def slack(text: str) -> bytes:
    attachment = {"title": TITLE, "title_link": "http://am", "fallback": TITLE + "| http://am",
                  "text": text, "color": "danger", "mrkdwn_in": ["text"]}  # fmt: skip
    return json.dumps({"channel": "#alerts", "attachments": [attachment]}).encode()


def mail(text: str | None = None, html: str | None = None) -> bytes:
    message = EmailMessage()
    message["Subject"] = TITLE
    if text is not None:
        message.set_content(text, cte="quoted-printable")
    if html is not None:
        message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message.as_bytes()


def listed(labels: dict[str, str], bullet: str = " - ") -> str:
    lines = "".join(f"{bullet}{k} = {v}\n" for k, v in labels.items())
    return f"Labels:\n{lines}Annotations:\n - summary = it is = down\nSource: http://p\n"


PLAIN = {**AUTH, "app": "image"}


def test_a_webhook_tells_all_by_fingerprint() -> None:
    found = read("webhook", webhook())
    assert found.told == (told("firing", AUTH), told("resolved", FILE))
    assert (found.group, found.cut_off) == ("{}:{}", "")


def test_a_webhook_that_was_cut_says_so() -> None:
    assert read("webhook", webhook(alerts=[], truncatedAlerts=3)).cut_off.startswith("3 alerts")


def test_pagerduty_lists_labels_of_what_fires_and_what_is_over() -> None:
    details = {"firing": listed(AUTH) + listed(PLAIN), "resolved": "", "num_firing": "2"}
    found = read("pagerduty", pagerduty(details))
    assert found.told == (told("firing", AUTH, "labels"), told("firing", PLAIN, "labels"))
    assert found.group == "ab12"
    over = read("pagerduty", pagerduty({"firing": "", "resolved": listed(AUTH)}, "resolve"))
    assert over.told == (told("resolved", AUTH, "labels"),)
    both = read("pagerduty", pagerduty({"firing": listed(AUTH), "resolved": listed(PLAIN)}))
    assert [t.status for t in both.told] == ["firing", "resolved"]


def test_pagerduty_without_details_is_known_by_its_title() -> None:
    (found,) = read("pagerduty", pagerduty({"error": "removed: too long"}, "resolve")).told
    assert (found.status, found.known_by, found.fingerprint) == ("resolved", "title", "")
    assert found.words == ("us-east-1a", "critical", "auth")


def test_slack_with_trace_lines_tells_all_by_fingerprint() -> None:
    text = "Look:\n" + trace("firing", AUTH) + "* " + trace("resolved", FILE)
    assert read("slack", slack(text)).told == (told("firing", AUTH), told("resolved", FILE))


def test_slack_by_default_tells_only_a_title() -> None:
    (found,) = read("slack", slack("")).told
    assert (found.labels, found.known_by, found.status) == ({"alertname": "ServiceDown"}, "title",
                                                            "firing")  # fmt: skip


def test_a_trace_line_whose_labels_were_changed_is_known_by_its_labels_only() -> None:
    (found,) = read("slack", slack(trace("firing", AUTH, given="0" * 16))).told
    assert (found.known_by, found.fingerprint, found.labels) == ("labels", "0" * 16, AUTH)


def test_mail_is_read_from_its_text_else_from_the_default_html() -> None:
    assert read("email", mail(trace("firing", FILE))).told == (told("firing", FILE),)
    rows = "".join(f"{k} = {v}<br style='x' />" for k, v in AUTH.items())
    html = (
        "<head><title>[FIRING:1] x</title></head><body><a>View in Alertmanager</a>"
        "<td><strong>[1] Firing</strong></td><td><strong>Labels</strong><br />" + rows
        + "<strong>Annotations</strong><br />summary = gone<br /><a href='x'>Source</a></td>"
        "<td><strong>[1] Resolved</strong></td><td><strong>Labels</strong><br />"
        "alertname = A&amp;B<br /></td></body>"
    )  # fmt: skip
    found = read("email", mail("", html)).told
    assert found == (
        told("firing", AUTH, "labels"),
        told("resolved", {"alertname": "A&B"}, "labels"),
    )
    (only,) = read("email", mail("nothing in here")).told
    assert (only.known_by, only.words) == ("title", ("us-east-1a", "critical", "auth"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("webhook", b"no json"),
        ("webhook", b"[]"),
        ("webhook", webhook(version="3")),
        ("webhook", webhook(alerts=[])),
        ("webhook", webhook(alerts=[{"status": "firing", "labels": {}}])),
        ("webhook", webhook(alerts=[{"status": "odd", "labels": AUTH}])),
        ("slack", b'{"text": "lunch?"}'),
        ("pagerduty", b'{"event_action": "acknowledge", "routing_key": "x"}'),
        ("pagerduty", b'{"event_action": "trigger"}'),
        ("email", b"Subject: lunch?\r\n\r\nat noon"),
    ],
)
def test_what_tells_of_no_alert_is_an_error(kind: str, body: bytes) -> None:
    with pytest.raises(ValueError):
        read(kind, body)
