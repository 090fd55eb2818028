"""The file of past runs: SQLite, one row a run, the same run never twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from harness.errors import ExitStatus, HarnessError, Where
from harness.history.record import Figure, Judged, Record, Repair

#: Of the schema below; a file of another is not touched.
VERSION = 1
#: Runs that a new run's plan.json remembers at most.
REMEMBERED_MAX = 500
_SCHEMA = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, plan TEXT NOT NULL, plan_sha256 TEXT NOT NULL, traffic TEXT NOT NULL,
    target TEXT NOT NULL, service TEXT NOT NULL, simulated INTEGER NOT NULL, run TEXT NOT NULL,
    folder TEXT NOT NULL, started_t REAL NOT NULL, ended_t REAL NOT NULL, outcome TEXT NOT NULL,
    exit_status INTEGER NOT NULL, complete INTEGER NOT NULL, watched_s INTEGER NOT NULL,
    failures INTEGER NOT NULL
) STRICT;
CREATE TABLE repair (
    run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    fault TEXT NOT NULL, low_s REAL NOT NULL, high_s REAL
) STRICT;
CREATE TABLE figure (
    run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    phase TEXT NOT NULL, name TEXT NOT NULL, low REAL NOT NULL, high REAL NOT NULL
) STRICT;
CREATE TABLE finding (
    run_id TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    objective TEXT NOT NULL, phase TEXT NOT NULL, outcome TEXT NOT NULL
) STRICT;
CREATE INDEX repair_run ON repair (run_id);
CREATE INDEX figure_run ON figure (run_id);
CREATE INDEX finding_run ON finding (run_id);
"""
_PARTS: dict[str, Any] = {"repair": Repair, "figure": Figure, "finding": Judged}
_COLUMNS = [f.name for f in fields(Record) if f.name not in ("repairs", "figures", "findings")]


class HistoryError(HarnessError):
    """The file of past runs cannot be used; a run does not need it."""

    exit_status = ExitStatus.CRASH


class History:
    """Past runs in the file ``path``, which is made when the first is recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, record: Record) -> bool:
        """Keep ``record``; what was kept of the same run before is replaced. True if it is new."""
        with self._open(create=True) as db:
            known = db.execute("SELECT 1 FROM run WHERE id = ?", (record.id,)).fetchone()
            db.execute("DELETE FROM run WHERE id = ?", (record.id,))
            values = [getattr(record, name) for name in _COLUMNS]
            marks = ", ".join("?" * len(_COLUMNS))
            db.execute(f"INSERT INTO run ({', '.join(_COLUMNS)}) VALUES ({marks})", values)
            for table, rows in (
                ("repair", record.repairs),
                ("figure", record.figures),
                ("finding", record.findings),
            ):
                names = [f.name for f in fields(_PARTS[table])]
                db.executemany(
                    f"INSERT INTO {table} (run_id, {', '.join(names)}) "
                    f"VALUES (?{', ?' * len(names)})",
                    [(record.id, *astuple(row)) for row in rows],
                )
        return known is None

    def runs(
        self, *, plan: str | None = None, target: str | None = None, service: str | None = None
    ) -> tuple[Record, ...]:
        """Past runs, the oldest first; of one plan, target or service where that is given."""
        wanted = {"plan": plan, "target": target, "service": service}
        said = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in said) or "1"
        if not self.path.exists():
            return ()
        with self._open() as db:
            rows = db.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM run WHERE {where} ORDER BY started_t, id",
                list(said.values()),
            ).fetchall()
            return tuple(_record(db, row) for row in rows)

    def before(self, target: str, service: str) -> dict[str, Any]:
        """What a run of ``service`` on ``target`` that begins now remembers of those before."""
        found = self.runs(target=target, service=service)[-REMEMBERED_MAX:]
        return {"runs": [record.to_json() for record in found]}

    @contextmanager
    def _open(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """The database within one transaction. Raises HistoryError for what is not ours."""
        try:
            if create and not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
            db = sqlite3.connect(self.path, timeout=10.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("BEGIN IMMEDIATE" if create else "BEGIN")
            self._check(db)
            yield db
            db.commit()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        finally:
            db.close()

    def _check(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise self._unusable(f"it has version {version}, {VERSION} is read")

    def _unusable(self, why: object) -> HistoryError:
        return HistoryError(
            f"the history of runs cannot be used: {why}",
            hint="move it away; `harness history add RUN…` makes it anew from run folders",
            where=Where(str(self.path)),
        )


def _record(db: sqlite3.Connection, row: tuple[Any, ...]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {name: bool(values[name]) for name in ("simulated", "complete")}
    for table, kind in _PARTS.items():
        names = [f.name for f in fields(kind)]
        rows = db.execute(
            f"SELECT {', '.join(names)} FROM {table} WHERE run_id = ? ORDER BY rowid",
            (values["id"],),
        ).fetchall()
        values[f"{table}s"] = tuple(kind(*part) for part in rows)
    return Record(**values)
