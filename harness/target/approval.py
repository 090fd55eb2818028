"""An approval of one run on a production target, signed by a second person.

It names what was looked at (the digest of plan, experiments and traffic, and that of the target
file), who may run it, from when to when, and is good for one run. The signature is OpenSSH's
(``ssh-keygen -Y sign``, namespace ``harness-approval``); whose keys count is said by the
target's ``approvers`` file, in the form of ``allowed_signers`` of ssh-keygen(1).
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import PlanInvalid, Refused, Where
from harness.plan.model import Plan
from harness.target.model import Target

_NAMESPACE = "harness-approval"
_DEADLINE_S = 10.0


@dataclass(frozen=True)
class Approval:
    """``begin_t`` and ``end_t`` (wall seconds) bound the whole run; ``nonce`` makes it single."""

    plan: str
    target: str
    runner: str
    approver: str
    begin_t: float
    end_t: float
    nonce: str

    @property
    def text(self) -> str:
        """What is signed."""
        return json.dumps(asdict(self), sort_keys=True)


def digest_of_plan(plan: Plan) -> str:
    """SHA-256 over the plan, its experiments, its traffic and a recording it replays.

    What the command line says otherwise than the plan (rate, entry) counts.
    """
    traffic = plan.traffic
    said = json.dumps([traffic.rate, traffic.shape, traffic.entry])
    files = [fault.experiment for fault in plan.faults] + [traffic.locustfile]
    files += [traffic.recording.file] if traffic.recording else []
    return _digest(
        [plan.text.encode(), said.encode(), *(Path(file).read_bytes() for file in files)]
    )


def digest_of_target(target_file: Path) -> str:
    """SHA-256 of the target file."""
    return _digest([target_file.read_bytes()])


def approve(
    plan: Plan,
    target_file: Path,
    *,
    key: Path,
    approver: str,
    runner: str,
    begin_t: float,
    end_t: float,
) -> bytes:
    """The approval as a file. Raises Refused where it cannot be signed, or is their own."""
    if begin_t >= end_t:
        raise Refused("the approval ends before it begins", hint="give --from and --to")
    _require_two(approver, runner)
    approval = Approval(
        digest_of_plan(plan), digest_of_target(target_file), runner, approver, begin_t, end_t,
        secrets.token_hex(16),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        message = Path(folder, "approval")
        message.write_text(approval.text)
        _ssh(["-Y", "sign", "-f", str(key), "-n", _NAMESPACE, str(message)], b"")
        signature = message.with_suffix(".sig").read_text()
    return json.dumps({"approval": approval.text, "signature": signature}, indent=1).encode()


def require_approval(
    file: Path | None,
    plan: Plan,
    target: Target,
    target_file: Path,
    *,
    begin_t: float,
    end_t: float,
    state: Path,
    runner: str | None = None,
) -> Approval:
    """The approval of a run from ``begin_t`` to ``end_t`` by ``runner`` (default: this user).

    Raises Refused where it is not for that, not signed by an approver of the target, or used.
    """
    runner = runner or getpass.getuser()
    if file is None or target.approvers is None:
        raise Refused(
            f"{target.name} is a production target, and nobody has approved this run",
            hint=f"a second person runs: harness approve PLAN --target FILE --for {runner} …",
        )
    approval, signature = _read(file)
    _verify(approval, signature, Path(target.approvers))
    _require_two(approval.approver, runner)
    again = "have it approved again: harness approve"
    for wrong, said in (
        (approval.plan != digest_of_plan(plan), "another plan, or this one before it was changed"),
        (approval.target != digest_of_target(target_file), "another target file"),
        (approval.runner != runner, f"a run by {approval.runner}, not by {runner}"),
        (
            not (approval.begin_t <= begin_t and end_t <= approval.end_t),
            f"a run from {_utc(approval.begin_t)} to {_utc(approval.end_t)}",
        ),
        (_mark(approval, state).exists(), "one run, which has begun already"),
    ):
        if wrong:
            raise Refused(f"{file} approves {said}", hint=again)
    return approval


def claim(approval: Approval, state: Path) -> None:
    """Use the approval up. Raises Refused when another run was faster."""
    mark = _mark(approval, state)
    mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        hint = "have it approved again: harness approve"
        raise Refused("the approval was for one run, which has begun already", hint=hint) from None


def _mark(approval: Approval, state: Path) -> Path:
    return state / "approvals" / hashlib.sha256(approval.nonce.encode()).hexdigest()[:32]


def _read(file: Path) -> tuple[Approval, str]:
    try:
        document: Any = json.loads(file.read_bytes())
        return Approval(**json.loads(document["approval"])), str(document["signature"])
    except OSError as error:
        raise PlanInvalid(
            f"the approval cannot be read: {error}", hint="check the path", where=Where(str(file))
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "`harness approve` writes them"
        raise PlanInvalid("this is no approval", hint=hint, where=Where(str(file), 1, 1)) from error


def _verify(approval: Approval, signature: str, approvers: Path) -> None:
    if not approvers.is_file():
        raise Refused(f"there is no file of approvers {approvers}", hint="see ssh-keygen(1)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signature")
        path.write_text(signature)
        argv = ["-Y", "verify", "-f", str(approvers), "-I", approval.approver]
        _ssh([*argv, "-n", _NAMESPACE, "-s", str(path)], approval.text.encode())


def _ssh(argv: list[str], message: bytes) -> None:
    try:
        ended = subprocess.run(
            ["ssh-keygen", *argv],
            input=message,
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"ssh-keygen: {error}", hint="install OpenSSH's client") from error
    if ended.returncode != 0:
        said = " ".join((ended.stderr or ended.stdout).decode(errors="replace").split())[:200]
        what = "signed" if argv[1] == "sign" else "verified"
        hint = "is it the key of an approver of this target?"
        raise Refused(f"the approval cannot be {what}: {said}", hint=hint)


def _require_two(approver: str, runner: str) -> None:
    if approver.partition("@")[0].casefold() == runner.partition("@")[0].casefold():
        raise Refused(f"{approver} cannot approve a run of their own", hint="ask somebody else")


def _digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _utc(t: float) -> str:
    return f"{datetime.fromtimestamp(t, UTC):%Y-%m-%d %H:%M} UTC"
