"""Uploads in parts, resumed after a break: the client's side of the tus protocol 1.0.0.

One upload is one operation: begun by POST, its parts sent by PATCH from the offset the
service names, and after anything but progress HEAD asks where to go on. It is acknowledged by
the answer that says the offset is the file's size, and by nothing else; as long as the last
part was never sent the file surely is not there.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.load import outcome
from harness.load.outcome import FAILED, OK, UNSURE, Outcome
from harness.load.steps import Steps
from harness.load.wire.client import Exchange

if TYPE_CHECKING:
    from harness.load.workload import Call

log = logging.getLogger(__name__)

PATH = "/v1/uploads"
PART_TYPE = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
#: Files from this size on may be uploaded in parts.
FROM_BYTES = 64 * 1024
PART_BYTES = 32 * 1024
#: Failures one after another, without progress in between, after which it is given up.
FAILURES_MAX = 3
#: How long after half of a part the connection of one that is to be interrupted is cut.
CUT_AFTER_S = 0.02
#: Answers to POST by which a service says that it knows no uploads in parts.
_UNKNOWN_HERE = frozenset({404, 405, 501})
#: Answers by which it says that it knows no such upload: it is begun anew.
_GONE = frozenset({404, 410})


class PartsUnknown(Exception):
    """The service takes no uploads in parts."""


class PartsUpload:
    """One file on its way. :meth:`steps` sends it; Raises PartsUnknown."""

    __slots__ = ("_body", "_call", "_failures", "_may_be_there", "_metadata", "_offset", "_path")

    def __init__(
        self, call: Call, object_id: str, body: bytes, *, sha256: str, content_type: str
    ) -> None:
        pairs = {"filename": object_id, "filetype": content_type, "sha256": sha256}
        self._metadata = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items()
        )
        self._call = call
        self._body = body
        self._path = ""
        self._offset = 0
        self._failures = 0
        #: the last part was sent, and it was not surely refused
        self._may_be_there = False

    def steps(self) -> Steps[Outcome]:
        """Send it to its end, or until it is given up."""
        result = None
        while result is None:
            result = yield from self._send_part() if self._path else self._begin()
        # To whoever counts, it is an upload like any other.
        self._call.method = "PUT"
        return result

    def _begin(self) -> Steps[Outcome | None]:
        headers = {
            **TUS,
            "Upload-Length": str(len(self._body)),
            "Upload-Metadata": self._metadata,
        }
        answer = yield from self._call.send("POST", PATH, headers)
        if answer.status in _UNKNOWN_HERE and not answer.error:
            raise PartsUnknown
        self._path = urlsplit(answer.header("location")).path
        self._offset = 0
        if not answer.error and answer.status == 201 and self._path:
            return None
        self._path = ""
        return self._failed(answer)

    def _send_part(self) -> Steps[Outcome | None]:
        call, offset = self._call, self._offset
        part = self._body[offset : offset + PART_BYTES]
        headers = {**TUS, "Content-Type": PART_TYPE, "Upload-Offset": str(offset)}
        interrupted = call.workload.interrupts()
        answer = yield from call.send(
            "PATCH", self._path, headers, part, cut_at=len(part) // 2 if interrupted else None
        )
        if not answer.error and answer.status == 204:
            return self._at(answer)
        if interrupted:
            return (yield from self._ask())
        if offset + len(part) == len(self._body):
            self._may_be_there |= outcome.of_write(answer, (204,)).outcome == UNSURE
        result = self._failed(answer)
        if result is None and self._path:
            result = yield from self._ask()
        return result

    def _ask(self) -> Steps[Outcome | None]:
        """Ask where to go on."""
        self._call.workload.resumptions += 1
        answer = yield from self._call.send("HEAD", self._path, TUS)
        if not answer.error and answer.status == 200:
            return self._at(answer)
        return self._failed(answer)

    def _at(self, answer: Exchange) -> Outcome | None:
        """Go on from the offset in this answer; at its end the file is stored."""
        told = answer.header("upload-offset")
        offset = int(told) if told.isdigit() else -1
        if offset == len(self._body):
            return Outcome(OK)
        if not 0 <= offset < len(self._body):
            return self._give_up("bad-offset")
        if offset > self._offset:
            self._failures = 0
        self._offset = offset
        return None

    def _failed(self, answer: Exchange) -> Outcome | None:
        """No progress: give it up, or None to try again."""
        error = answer.error or f"status-{answer.status}"
        self._failures += 1
        if not answer.error and answer.status in _GONE:
            self._path = ""
        elif not answer.error and 400 <= answer.status < 500 and answer.status not in (408, 409):
            return self._give_up(error)
        # A timeout is that of the whole operation: there is no time left.
        if self._failures > FAILURES_MAX or error == "timeout":
            return self._give_up(error)
        return None

    def _give_up(self, error: str) -> Outcome:
        return Outcome(UNSURE if self._may_be_there else FAILED, error)
