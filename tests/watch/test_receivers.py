"""Receivers take in what arrives on loopback, put it on record, and are seen to listen."""

from __future__ import annotations

import http.client
import json
import os
import smtplib
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from harness.clock import ManualClock, SystemClock
from harness.errors import Refused
from harness.evidence.deliveries import deliveries, fingerprint
from harness.evidence.lines import read_lines
from harness.target.model import AlertReceivers
from harness.watch.receivers import MESSAGE_MAX_BYTES, Receivers, ReceiversListen
from harness.watch.recorder import Unseen

TOKEN = "0123456789abcdef"
LABELS = {"alertname": "ServiceDown", "zone": "us-east-1a"}
LINE = f'firing {fingerprint(LABELS)} alertname="ServiceDown" zone="us-east-1a"\n'
BODIES = {
    "audit": {"version": "4", "groupKey": "g", "alerts": [{"status": "firing", "labels": LABELS,
              "fingerprint": fingerprint(LABELS)}]},
    "chat": {"attachments": [{"title": "[FIRING:1] ServiceDown", "text": LINE}]},
    "oncall": {"routing_key": "r", "event_action": "trigger", "dedup_key": "g", "payload": {
        "custom_details": {"firing": "Labels:\n - alertname = ServiceDown\n - zone = us-east-1a\n"}
    }},
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.108.0.95", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def described() -> AlertReceivers:
    kinds = {"audit": "webhook", "chat": "slack", "oncall": "pagerduty", "post": "email"}
    return AlertReceivers(
        TOKEN, kinds, f"127.108.0.95:{free_port()}", f"127.108.0.95:{free_port()}"
    )


@pytest.fixture
def receivers(described: AlertReceivers, tmp_path: Path) -> Iterator[Receivers]:
    found = Receivers(described, tmp_path, SystemClock())
    found.start()
    yield found
    found.close()


def send(
    receivers: Receivers, path: str, body: bytes = b"", method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    host, _, port = str(receivers.described.http).rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def mailbox(receivers: Receivers) -> smtplib.SMTP:
    host, _, port = str(receivers.described.smtp).rpartition(":")
    return smtplib.SMTP(host, int(port), timeout=5, local_hostname="localhost")


def message(text: str, to: str) -> EmailMessage:
    found = EmailMessage()
    found["From"], found["To"], found["Subject"] = "am@harness.test", to, "[FIRING:1] ServiceDown"
    found.set_content(text)
    return found


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in history(folder) if line["kind"] == kind]


def test_each_kind_puts_its_delivery_on_record(receivers: Receivers, tmp_path: Path) -> None:
    answers = {n: send(receivers, f"/{TOKEN}/{n}", json.dumps(b).encode())
               for n, b in BODIES.items()}  # fmt: skip
    assert answers["audit"] == answers["chat"] == (200, b"ok")
    assert answers["oncall"][0] == 202 and json.loads(answers["oncall"][1])["status"] == "success"
    with mailbox(receivers) as smtp:
        # A line that begins with a dot, and one that is nothing but a dot, come through whole.
        text = LINE + ".\n..\n" + LINE.replace("firing", "resolved")
        smtp.send_message(message(text, f"post+{TOKEN}@harness.test"))
    receivers.close()
    events, gaps = read_lines(tmp_path / "history.jsonl", "history.jsonl")
    assert not gaps
    found = {(d.receiver, d.status): d for d in deliveries(events)}
    wanted = {(name, "firing") for name in (*BODIES, "post")} | {("post", "resolved")}
    assert set(found) == wanted
    assert {d.fingerprint for d in found.values()} == {fingerprint(LABELS)}
    assert all(d.labels == LABELS for d in found.values())
    assert found["audit", "firing"].known_by == "fingerprint"
    assert (found["oncall", "firing"].known_by, found["oncall", "firing"].group) == ("labels", "g")


def test_who_does_not_know_the_token_is_refused_and_it_is_never_written(
    receivers: Receivers, tmp_path: Path
) -> None:
    body = json.dumps(BODIES["audit"]).encode()
    for path in (f"/{TOKEN[:-1]}x/audit", "/audit", f"/{TOKEN}/nobody", f"/{TOKEN}/post", "/"):
        assert send(receivers, path, body)[0] == 404
        assert send(receivers, path, method="GET")[0] == 404
    with mailbox(receivers) as smtp:
        for to in ("post+wrong@harness.test", "post@x.test", f"audit+{TOKEN}@x.test"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.send_message(message(LINE, to))
        assert smtp.docmd("DATA")[0] == 503
    assert not of_kind(tmp_path, "alert.delivery")
    assert 0 < len(of_kind(tmp_path, "alert.refused")) <= 20
    assert TOKEN not in (tmp_path / "history.jsonl").read_text()


def test_what_cannot_be_read_is_on_record_as_that(receivers: Receivers, tmp_path: Path) -> None:
    assert send(receivers, f"/{TOKEN}/audit", b"\xff{")[0] == 400
    with mailbox(receivers) as smtp, pytest.raises(smtplib.SMTPDataError):
        mail = message("lunch?", f"post+{TOKEN}@harness.test")
        del mail["Subject"]
        smtp.send_message(mail)
    found = of_kind(tmp_path, "alert.unreadable")
    assert [f["receiver"] for f in found] == ["audit", "post"]
    assert all(f["why"] for f in found)


def test_what_is_too_long_or_has_no_length_is_refused(receivers: Receivers, tmp_path: Path) -> None:
    too_long = str(MESSAGE_MAX_BYTES + 1)
    assert send(receivers, f"/{TOKEN}/audit", b"x", **{"Content-Length": too_long})[0] == 413
    assert send(receivers, f"/{TOKEN}/audit", b"x", **{"Content-Length": "many"})[0] == 413
    with mailbox(receivers) as smtp:
        smtp.ehlo()
        smtp.mail("a@b.test")
        smtp.rcpt(f"post+{TOKEN}@harness.test")
        line = b"x" * 998 + b"\r\n"
        assert smtp.data(line * (MESSAGE_MAX_BYTES // 1000 + 1))[0] == 552
        assert smtp.noop()[0] == 250
    assert [line["kind"] for line in history(tmp_path)] == ["receiver.start"] * 4


def test_mail_that_broke_off_is_not_delivered(receivers: Receivers, tmp_path: Path) -> None:
    smtp = mailbox(receivers)
    smtp.ehlo()
    smtp.mail("a@b.test")
    smtp.rcpt(f"post+{TOKEN}@harness.test")
    assert smtp.docmd("DATA")[0] == 354
    smtp.send(b"Subject: [FIRING:1] ServiceDown\r\n\r\n" + LINE.encode())
    smtp.close()
    assert send(receivers, f"/{TOKEN}/audit", method="GET") == (200, b"listening")
    assert not of_kind(tmp_path, "alert.delivery")


def test_what_cannot_be_put_on_record_is_not_acknowledged(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    body = json.dumps(BODIES["audit"]).encode()
    assert send(receivers, f"/{TOKEN}/audit", body)[0] == 500
    with mailbox(receivers) as smtp, pytest.raises(smtplib.SMTPDataError) as refused:
        smtp.send_message(message(LINE, f"post+{TOKEN}@harness.test"))
    assert refused.value.smtp_code == 451
    monkeypatch.undo()


def test_an_address_in_use_is_refused_and_nothing_stays_open(
    described: AlertReceivers, tmp_path: Path
) -> None:
    host, _, port = str(described.smtp).rpartition(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(Refused, match="cannot listen"):
            Receivers(described, tmp_path, ManualClock())
        http_host, _, http_port = str(described.http).rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((http_host, int(http_port)), timeout=1)
    assert not (tmp_path / "history.jsonl").exists()


def test_an_observer_sees_whether_each_listens(described: AlertReceivers, tmp_path: Path) -> None:
    observer = ReceiversListen(described, 1.0)
    assert observer.subjects == tuple(f"receiver:{n}" for n in ("audit", "chat", "oncall", "post"))
    assert all(isinstance(value, Unseen) for value in observer.poll().values())
    receivers = Receivers(described, tmp_path, SystemClock())
    receivers.start()
    try:
        assert observer.renew().poll() == dict.fromkeys(observer.subjects, "listening")
    finally:
        receivers.close()
    assert all(isinstance(value, Unseen) for value in observer.poll().values())
    assert not [line for line in history(tmp_path) if line["kind"] == "alert.refused"]
