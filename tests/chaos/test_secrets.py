"""Forty secrets are planted, and given away by everything that can: none is in any output."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

from harness import secrets
from harness.target.model import AlertReceivers, Pager
from harness.target.reader import write_target

from . import day
from .conftest import Cloud

#: What a password may hold: what URLs, JSON and shells quote, and what is not ASCII.
AWKWARD = ("plain", "sl/ash+plus=", "sp ace&amp", 'quo"te\\', "umläut%25", "co:lon@at")


class Planted:
    """Forty values, each in a place of its own."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.values: list[str] = []
        self.environment = {f"CI_{n}_TOKEN": self.new() for n in range(8)}
        self.environment |= {"DATABASE_URL": f"postgres://app:{quote(self.new(), safe='')}@db/x",
                             "SLACK_WEBHOOK": self.new(), "API_KEY": self.new(),
                             "APP_PASSWORD": self.new()}  # fmt: skip
        profiles = folder / "credentials"
        profiles.write_text("".join(
            f"[{name}]\naws_secret_access_key = {self.new()}\naws_session_token = {self.new()}\n"
            for name in ("one", "two", "three")
        ))  # fmt: skip
        self.environment["AWS_SHARED_CREDENTIALS_FILE"] = str(profiles)
        self.environment["AWS_SECRET_ACCESS_KEY"] = self.new()
        kubeconfig = Path(cloud.target.kubeconfig)
        users = {"token": self.new(), "password": self.new(), "client-key-data": self.new()}
        users["exec"] = {"env": [{"name": "OIDC_SECRET", "value": self.new()}]}
        document = json.dumps({"name": "other", "user": users})
        text = kubeconfig.read_text()
        kubeconfig.write_text(text.replace("users: [", f"users: [{document}, "))
        token = "T0ken" + "".join(c for c in self.new() if c.isalnum() and c.isascii())
        self.values[-1] = token
        of_target = {"AWS_SECRET_ACCESS_KEY": self.new(), "AWS_ACCESS_KEY_ID": "lab"}
        of_target |= {f"SERVICE_{n}_SECRET": self.new() for n in range(6)}
        user, password = self.new(), self.new()
        url = f"http://{quote(user, safe='')}:{quote(password, safe='')}@127.107.0.90:9090"
        pager = f"http://127.107.1.2:9/{quote(self.new(), safe='')}"
        target = replace(
            cloud.target, environment=of_target, prometheus_url=url,
            alert_receivers=AlertReceivers(token, {"a": "webhook"}, http="127.0.0.1:9095"),
            pager=Pager(pager, self.new()),
        )  # fmt: skip
        write_target(target, cloud.target_file)
        self.of_experiment = {"vault_token": self.new(), "db_password": self.new()}
        while len(self.values) < 40:
            name = f"MORE_{len(self.values)}_CREDENTIAL"
            self.environment[name] = self.new()

    def new(self) -> str:
        n = len(self.values)
        self.values.append(f"{AWKWARD[n % len(AWKWARD)]}-{n:02d}-{'pqrstuvwxyz'[n % 11] * 6}")
        return self.values[-1]

    def forms(self) -> Iterator[tuple[str, str]]:
        """(how it is given away, what of that must not be found)"""
        for value in self.values:
            for form in (value, quote(value), quote(value, safe=""), quote_plus(value),
                         json.dumps(value)[1:-1]):  # fmt: skip
                yield form, form
            for before in ("", "u:", "me:"):
                whole = base64.b64encode(f"{before}{value}".encode()).decode()
                # The middle of it, which no neighbour changes.
                yield whole, whole[len(before) + 4 : -4]
            whole = base64.urlsafe_b64encode(value.encode()).decode()
            yield whole, whole[4:-4]


def test_forty_planted_secrets_are_in_no_output(cloud: Cloud, tmp_path: Path) -> None:
    planted = Planted(cloud, tmp_path)
    assert len(set(planted.values)) == 40
    told = tmp_path / "told.json"
    told.write_text(json.dumps(sorted({form for form, _ in planted.forms()})))
    plan = day.write_plan(tmp_path, only=["zone"])
    experiment = json.loads((tmp_path / "zone.json").read_text())
    experiment["configuration"] = {**experiment["configuration"], **planted.of_experiment}
    leak = {"type": "python", "module": "tests.chaos.misbehaving", "func": "leak",
            "arguments": {"file": str(told)}}  # fmt: skip
    experiment["method"].append({"type": "action", "name": "leak", "provider": leak})
    (tmp_path / "zone.json").write_text(json.dumps(experiment))
    plan.write_text(f"{plan.read_text()}functions: [tests.chaos.misbehaving.leak]\n")
    runs = tmp_path / "runs"
    argv = [sys.executable, "-m", "tests.chaos.day", "run", str(plan), "--runs", str(runs)]
    argv += ["--target", str(cloud.target_file)]
    environment = {**os.environ, **planted.environment, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        argv, cwd=day.ROOT, env=environment, capture_output=True, timeout=90, check=False
    )
    said = {"stdout": done.stdout, "stderr": done.stderr}
    said |= {str(p.relative_to(runs)): p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    assert {Path(name).name for name in said} >= {
        "history.jsonl", "undo.jsonl", "plan.json", "verdict.json", "report.html", "junit.xml",
        "summary.md", "zone.journal.json", "chaos-zone.out", "watchdog.log", "history.sqlite",
    }, said["stderr"].decode()  # fmt: skip
    found = [
        (name, form)
        for name, text in said.items()
        for form, part in planted.forms()
        if part.encode() in text
    ]
    assert found == []
    # That is not because nobody said anything.
    assert any(secrets.MASK.encode() in text for name, text in said.items() if "chaos" in name)
    assert secrets.MASK.encode() in said[next(n for n in said if n.endswith("history.jsonl"))]
    assert cloud.healthy()
    modes = {p: p.stat().st_mode & 0o077 for p in runs.rglob("*") if p.is_file()}
    assert set(modes.values()) == {0}, modes
