"""One real PostgreSQL server of the lab: primary or streaming replica.

Every call has a deadline that holds against a frozen server, because a zone that is a black
hole is the lab's normal weather. :meth:`Postgres.kill` is fencing: afterwards this member can
never acknowledge a write again.

PostgreSQL refuses to run as root, so the server runs in a user namespace. The same call gives
it a process and an IPC namespace of its own: when the postmaster dies, the kernel ends every
backend with it, frozen ones included, and no shared memory is left behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from harness.errors import LabError
from harness.lab import binaries, debian, proc
from harness.lab.part import HINT_LOG, Part, poll_until, signal_all, write_atomically

USER = "lab"
DATABASE = "files"

#: Calls without a deadline of their own end after this long.
_CALL_TIMEOUT_S = 5.0
_COPY_DEADLINE_S = 30.0
_DYNAMIC_CONF = "lab.conf"
_NOBODY = 65534
_IPC_RMID = 0

#: Small on purpose: a lab holds three servers. Both ends notice a dead peer within 3 s.
_SETTINGS: dict[str, str] = {
    "archive_mode": "off",
    "autovacuum_max_workers": "1",
    "autovacuum_naptime": "15s",
    # Shared memory segments as files of the data folder, so that none outlives a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "on",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "jit": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "max_connections": "120",
    "max_logical_replication_workers": "0",
    "max_parallel_workers": "0",
    "max_wal_senders": "8",
    "max_wal_size": "256MB",
    "max_worker_processes": "2",
    "recovery_target_timeline": "latest",
    "shared_buffers": "16MB",
    "synchronous_commit": "remote_apply",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "unix_socket_directories": "",
    "wal_keep_size": "256MB",
    "wal_level": "replica",
    "wal_receiver_status_interval": "1s",
    "wal_receiver_timeout": "3s",
    "wal_retrieve_retry_interval": "500ms",
    "wal_sender_timeout": "3s",
}
#: Settings an older server on PATH would not know, by the first version that has them.
_SETTINGS_SINCE: dict[int, dict[str, str]] = {18: {"io_method": "sync"}}


class PostgresError(RuntimeError):
    """The server answered with an error, or broke the connection off."""


class Postgres(Part):
    """A PostgreSQL server at ``host:port`` with its files in ``data_dir``.

    ``name`` is also the standby's ``application_name``. Network failures raise ``OSError``,
    deadlines ``TimeoutError``, everything the server says ``PostgresError``.
    """

    def __init__(self, name: str, host: str, port: int, data_dir: Path, log: Path) -> None:
        super().__init__(name, [(host, port)], log)
        self.host = host
        self.port = port
        self.data_dir = data_dir.absolute()
        self._dynamic: dict[str, str] = {}

    # ---- files -----------------------------------------------------------------------

    async def init_primary(self, schema_sql: str = "") -> None:
        """Create an empty database, start it as primary and apply ``schema_sql``."""
        self.kill()
        template = await _template(self.log)
        await asyncio.to_thread(_copy_tree, template, self.data_dir)
        self._dynamic = {}
        self._configure()
        await self.start()
        await self.ready()
        if schema_sql:
            await self.execute(schema_sql, _CALL_TIMEOUT_S)

    async def clone_from(self, source: Postgres, deadline_s: float = _COPY_DEADLINE_S) -> None:
        """Throw this member's files away, copy ``source``'s and start as its replica."""
        self.kill()
        await asyncio.to_thread(shutil.rmtree, self.data_dir, ignore_errors=True)
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        argv = ["pg_basebackup", "--pgdata", str(self.data_dir), "--wal-method=stream"]
        argv += ["--checkpoint=fast", "--no-sync", "--dbname", _conninfo(source, self.name)]
        await _run_program(argv, self.data_dir.parent, self.log, deadline_s)
        (self.data_dir / "standby.signal").touch()
        _give_away(self.data_dir)
        self._dynamic = {"primary_conninfo": _conninfo(source, self.name)}
        self._configure()
        await self.start()
        await self.ready()

    def _configure(self) -> None:
        # postgresql.auto.conf comes with a copied data folder and would override everything.
        write_atomically(self.data_dir / "postgresql.auto.conf", "")
        settings = {**_SETTINGS, "listen_addresses": self.host, "port": str(self.port)}
        for version, extra in _SETTINGS_SINCE.items():
            if _major_version() >= version:
                settings |= extra
        text = f"{_conf(settings)}include '{_DYNAMIC_CONF}'\n"
        write_atomically(self.data_dir / "postgresql.conf", text)
        trust = "host all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust\n"
        write_atomically(self.data_dir / "pg_hba.conf", trust)
        self._write_dynamic()

    def _write_dynamic(self) -> None:
        write_atomically(self.data_dir / _DYNAMIC_CONF, _conf(self._dynamic))
        _give_away(self.data_dir / _DYNAMIC_CONF)
        if os.geteuid() == 0:
            for name in ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf"):
                _give_away(self.data_dir / name)

    async def _reconfigure(self, changes: Mapping[str, str]) -> None:
        """Change settings of the running server; returns when it uses them.

        Written to a file and signalled, not sent as SQL: it works while every connection is
        taken by a commit that waits for a lost standby.
        """
        self._dynamic |= changes
        self._write_dynamic()
        if not self.running:
            return
        signal_all([self._postmaster()], signal.SIGHUP)
        wanted = {k: v for k, v in changes.items() if k != "primary_conninfo"}

        async def in_use() -> bool:
            for name, value in wanted.items():
                if await self._value("SELECT current_setting($1)", name) != value:
                    return False
            return True

        if not await poll_until(in_use, deadline_s=_CALL_TIMEOUT_S, poll_s=0.02):
            raise TimeoutError(f"{self.name} did not take its new settings")

    # ---- process -----------------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        # A pid file left by a killed server names a process that is no longer ours.
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
        program = str(binaries.postgres_bin() / "postgres")
        argv = [program, "-D", str(self.data_dir)]
        return proc.spawn(_unprivileged(argv), log=self.log, cwd=self.data_dir, env=_ENV)

    async def ready(self, deadline_s: float = 10.0) -> None:
        """Return when it answers queries; raises LabError as every part does."""
        await super().ready(deadline_s)
        if not _in_namespace():
            _let_go_of_shared_memory(self.data_dir)

    async def _is_ready(self) -> bool:
        try:
            await self._value("SELECT 1", timeout_s=1.0)
        except PostgresError:  # "the database system is starting up"
            return False
        return True

    def _postmaster(self) -> int:
        """The server's own pid: the child of the namespace wrapper, else the program itself."""
        assert self.process is not None
        children = proc.descendants(self.process.pid)
        return children[1] if _in_namespace() and len(children) > 1 else self.process.pid

    async def stop(self, grace_s: float = 5.0, mode: str = "fast") -> None:
        """End the server: ``smart``, ``fast`` (default) or ``immediate``, as ``pg_ctl`` has it.

        ``fast`` sends all write-ahead log to streaming standbys first. After ``grace_s`` it
        is killed.
        """
        if not self.running:
            return
        assert self.process is not None
        signal_all(self.pids(), signal.SIGCONT)
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        signal_all([self._postmaster()], how[mode])
        try:
            await asyncio.to_thread(self.process.wait, grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    # ---- role ---------------------------------------------------------------------------

    async def role(self, timeout_s: float = 1.0) -> str:
        """``primary``, ``replica``, or ``down`` when it does not say so within ``timeout_s``."""
        if not self.running:
            return "down"
        try:
            replica = await self._value("SELECT pg_is_in_recovery()", timeout_s=timeout_s)
        except (OSError, TimeoutError, PostgresError):
            return "down"
        return "replica" if replica else "primary"

    async def promote(self, timeout_s: float = 10.0) -> None:
        """Make this replica the primary; returns when it takes writes. No-op on a primary."""
        if await self._value("SELECT pg_is_in_recovery()", timeout_s=timeout_s):
            whole_s = max(1, int(timeout_s))
            done = await self._value(
                "SELECT pg_promote(true, $1)", whole_s, timeout_s=timeout_s + 1
            )
            if not done:
                raise TimeoutError(f"{self.name} was not promoted within {timeout_s:g} s")

    async def follow(self, source: Postgres) -> None:
        """Replicate from ``source`` from now on, across its change of timeline.

        It asks for the stream and returns; :meth:`caught_up` of ``source`` says when it flows.
        A member that is ahead of ``source`` cannot follow: clone it.
        """
        await self._reconfigure({"primary_conninfo": _conninfo(source, self.name)})

    async def set_synchronous(self, names: Sequence[str]) -> None:
        """Let commits wait until one of ``names`` (first preferred) has applied them; () is off."""
        quoted = ", ".join(f'"{name}"' for name in names)
        value = f"FIRST 1 ({quoted})" if names else ""
        await self._reconfigure({"synchronous_standby_names": value})

    async def replication(self, timeout_s: float = 2.0) -> list[dict[str, Any]]:
        """The standbys this server streams to.

        Each is ``{"name", "state", "sync_state", "lag_bytes", "replay_lag_s"}``;
        ``replay_lag_s`` is None when nothing has been replayed lately.
        """
        rows = await self._query(
            """SELECT application_name AS name, state, sync_state,
                 pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
                   ELSE pg_current_wal_lsn() END, replay_lsn)::bigint AS lag_bytes,
                 extract(epoch FROM replay_lag)::float8 AS replay_lag_s
               FROM pg_stat_replication ORDER BY application_name""",
            timeout_s=timeout_s,
        )
        return [dict(row) for row in rows]

    async def caught_up(self, replica: Postgres, deadline_s: float) -> None:
        """Return when ``replica`` has applied all that is committed here at this moment.

        Raises TimeoutError after ``deadline_s``.
        """
        end_s = time.monotonic() + deadline_s
        lsn = await self._value("SELECT pg_current_wal_lsn()::text", timeout_s=deadline_s)

        async def applied() -> bool:
            left_s = max(0.05, end_s - time.monotonic())
            sql = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)"
            try:
                return bool(await replica._value(sql, lsn, timeout_s=left_s))
            except (OSError, TimeoutError, PostgresError):
                return False

        if not await poll_until(applied, deadline_s=end_s - time.monotonic()):
            raise TimeoutError(f"{replica.name} did not catch up within {deadline_s:g} s")

    # ---- queries ------------------------------------------------------------------------

    async def execute(self, sql: str, timeout_s: float = _CALL_TIMEOUT_S) -> None:
        """Run ``sql`` (several statements are one transaction)."""
        await self._call(lambda connection: connection.execute(sql), timeout_s)

    async def _value(self, sql: str, *args: object, timeout_s: float = _CALL_TIMEOUT_S) -> Any:
        return await self._call(lambda connection: connection.fetchval(sql, *args), timeout_s)

    async def _query(self, sql: str, *, timeout_s: float) -> list[Any]:
        return await self._call(lambda connection: connection.fetch(sql), timeout_s)

    async def _call(self, use: Any, timeout_s: float) -> Any:
        """Connect, use, disconnect; all within ``timeout_s`` whatever the server does."""
        connection = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = await asyncpg.connect(
                    host=self.host,
                    port=self.port,
                    user=USER,
                    password=USER,
                    database=DATABASE,
                    ssl=False,
                    timeout=timeout_s,
                )
                return await use(connection)
        except _SERVER_SAYS_NO as error:
            raise PostgresError(f"{self.name}: {error}") from error
        finally:
            if connection is not None:
                # Not close(): that waits for a frozen server's goodbye.
                connection.terminate()


_SERVER_SAYS_NO = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What asyncpg raises when the connection breaks between two of its steps.
    asyncpg.InternalClientError,
)

#: libpq of pg_basebackup must not read the user's own settings.
_ENV = {"PGPASSFILE": os.devnull, "PGSERVICEFILE": os.devnull, "LC_ALL": "C", "TZ": "UTC"}


def _conninfo(source: Postgres, name: str) -> str:
    return (
        f"host={source.host} port={source.port} user={USER} application_name={name} "
        "connect_timeout=2 sslmode=disable gssencmode=disable"
    )


def _conf(settings: Mapping[str, str]) -> str:
    quoted = {k: v.replace("'", "''") for k, v in settings.items()}
    return "".join(f"{name} = '{value}'\n" for name, value in sorted(quoted.items()))


@cache
def _major_version() -> int:
    program = str(binaries.postgres_bin() / "postgres")
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return int(text.split()[2].partition(".")[0])


# ---- running as somebody else than root ------------------------------------------------

_NAMESPACE = [
    "unshare", "--user", "--map-user=1000", "--map-group=1000",
    "--pid", "--ipc", "--fork", "--kill-child",
]  # fmt: skip


@cache
def _in_namespace() -> bool:
    """Can this user make the namespaces? (Some containers and distributions forbid it.)"""
    if not shutil.which("unshare"):
        return False
    done = subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False)
    return done.returncode == 0


def _unprivileged(argv: Sequence[str]) -> list[str]:
    """``argv`` run in namespaces, else as an ordinary user; it still dies with this process."""
    if _in_namespace():
        return [*_NAMESPACE, *argv]
    if os.geteuid() != 0:
        return list(argv)
    if not shutil.which("setpriv"):
        raise LabError(
            "PostgreSQL refuses to run as root, and neither unshare nor setpriv works here",
            hint="run as an ordinary user, or install util-linux",
        )
    # Changing user clears the death signal, so it is asked for again; the shell then checks
    # that the parent did not die in between.
    change = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    alive = f'[ "$PPID" = {os.getpid()} ] || exit 1; exec "$@"'
    return [*change, "setpriv", "--pdeathsig", "KILL", "sh", "-c", alive, "sh", *argv]


def _let_go_of_shared_memory(data_dir: Path) -> None:
    """Have the kernel remove the server's SysV segment when its last process ends.

    PostgreSQL keeps one as a lock and a SIGKILL would leave it behind (an IPC namespace takes
    it along). The lab's own lock on its state folder does the same job.
    """
    lines = (data_dir / "postmaster.pid").read_text().splitlines()
    key_and_id = lines[6].split() if len(lines) > 6 else []
    if len(key_and_id) == 2:
        ctypes.CDLL(None).shmctl(int(key_and_id[1]), _IPC_RMID, None)


def _give_away(path: Path) -> None:
    """Let the user the server runs as own ``path`` (needed only without namespaces)."""
    if os.geteuid() != 0 or _in_namespace():
        return
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.chown(item, _NOBODY, _NOBODY)


async def _run_program(argv: Sequence[str], owner: Path, log: Path, deadline_s: float) -> None:
    """Run one of PostgreSQL's programs to its end; ``owner`` is the folder it writes into."""
    _give_away(owner)
    program = [str(binaries.postgres_bin() / argv[0]), *argv[1:]]
    process = proc.spawn(_unprivileged(program), log=log, cwd=owner, env=_ENV)
    try:
        status = await asyncio.to_thread(process.wait, deadline_s)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{argv[0]} did not finish within {deadline_s:g} s") from None
    finally:
        signal_all(proc.descendants(process.pid) if process.poll() is None else [], signal.SIGKILL)
        process.wait()
    if status != 0:
        raise LabError(f"{argv[0]} failed with status {status}, see {log}", hint=HINT_LOG)


# ---- the template every primary starts from ----------------------------------------------


async def _template(log: Path) -> Path:
    """An initialised data folder in the cache, made once per PostgreSQL release and user."""
    version = subprocess.run(
        [str(binaries.postgres_bin() / "postgres"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[2]
    folder = debian.cache_dir() / "postgres"
    folder.mkdir(exist_ok=True)
    template = folder / f"template-{version}-{'namespace' if _in_namespace() else 'plain'}"
    if not template.exists():
        await _make_template(template, log)
    return template


async def _make_template(template: Path, log: Path) -> None:
    # No lock: two labs may both make one, and the first rename wins.
    with tempfile.TemporaryDirectory(dir=template.parent, prefix=".making-") as scratch:
        work = Path(scratch)
        data = work / "data"
        argv = ["initdb", "--pgdata", str(data), "--username", USER, "--auth=trust"]
        argv += ["--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"]
        await _run_program(argv, work, log, _COPY_DEADLINE_S)
        # Without a server: single-user mode reads one statement per line.
        sql = f'printf \'CREATE DATABASE {DATABASE}\\n\' | "$0" --single -D "$1" postgres'
        postgres = str(binaries.postgres_bin() / "postgres")
        process = proc.spawn(
            _unprivileged(["sh", "-c", sql, postgres, str(data)]), log=log, cwd=work, env=_ENV
        )
        if await asyncio.to_thread(process.wait, _COPY_DEADLINE_S) != 0:
            raise LabError(f"PostgreSQL could not create its database, see {log}", hint=HINT_LOG)
        try:
            os.rename(data, template)
        except OSError:
            if not template.exists():
                raise


def _copy_tree(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, symlinks=True)
    target.chmod(0o700)
    _give_away(target)
