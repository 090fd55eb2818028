"""``harness recover``: undo from the undo log alone, any number of times, from any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.chaos.registry import Reach, reach_for
from harness.chaos.undo import LOG_NAME, UndoReport, open_records, undo_all
from harness.clock import Clock, SystemClock
from harness.errors import EvidenceError, Where

SOURCE = "recover"


def recover(
    run_dir: Path,
    *,
    clock: Clock | None = None,
    reach: Callable[[str], Reach] = reach_for,
    target_file: Path | None = None,
    lock_timeout_s: float = 120.0,
) -> UndoReport:
    """Undo every fault that the folder says is, or may be, in place; read each back.

    ``target_file`` takes the place of the one that the log names, which may be another machine's.
    With nothing open, nothing is written and the report is empty. What could not be undone
    is in ``report.failed`` (``report.raise_if_incomplete()`` makes it exit status 113).
    Raises EvidenceError if ``run_dir`` is no folder, TimeoutError if another undo holds the
    log for ``lock_timeout_s``.
    """
    if not run_dir.is_dir():
        raise EvidenceError("no such run folder", hint="ls runs/*/", where=Where(str(run_dir)))
    return undo_all(
        run_dir,
        clock or SystemClock(),
        source=SOURCE,
        reach=reach if target_file is None else lambda _: reach(str(target_file)),
        lock_timeout_s=lock_timeout_s,
    )


def runs_left_open(root: Path) -> list[Path]:
    """Every run folder below ``root`` whose undo log has something open, oldest first."""
    logs = sorted(root.rglob(LOG_NAME), key=lambda log: log.stat().st_mtime)
    return [log.parent for log in logs if open_records(log.parent)]


@contextmanager
def run_folder(where: str, target_file: Path | None, scratch: Path) -> Iterator[Path]:
    """The folder to recover from: ``where`` is one, or an undo log by its path or ``s3://`` URL.

    A log that is no run folder's is copied into ``scratch``, and what was done is written back to
    where it came from. An object is read with the target's connections, else with AWS's default
    credentials. Raises EvidenceError: there is no such log.
    """
    if where.startswith("s3://"):
        store = _Object(where, target_file)
        (scratch / LOG_NAME).write_bytes(store.read())
        yield scratch
        store.write((scratch / LOG_NAME).read_bytes())
        return
    path = Path(where)
    if path.is_dir() or not path.is_file():
        yield path
    elif path.name == LOG_NAME:
        yield path.parent
    else:
        (scratch / LOG_NAME).write_bytes(path.read_bytes())
        yield scratch
        path.write_bytes((scratch / LOG_NAME).read_bytes())


class _Object:
    """An undo log in S3."""

    def __init__(self, url: str, target_file: Path | None) -> None:
        parts = urlsplit(url)
        self._url, self._at = url, {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}
        self._s3 = _s3(target_file)

    def read(self) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return bytes(self._s3.get_object(**self._at)["Body"].read())
        except (BotoCoreError, ClientError) as error:
            hint = "name the object of the log, and credentials that may read it"
            raise EvidenceError(str(error), hint=hint, where=Where(self._url)) from error

    def write(self, log: bytes) -> None:
        self._s3.put_object(**self._at, Body=log)


def _s3(target_file: Path | None) -> Any:
    from harness.target import connect

    if target_file is not None:
        target = reach_for(str(target_file)).target
        return connect.aws(target, "s3", target.primary, "undo")
    import boto3

    return boto3.session.Session().client("s3")
