"""What streams out of a pod: its logs, and commands run beside it.

``exec`` speaks the channel protocol over a WebSocket: the first byte of each message is
the channel (0 stdin, 1 stdout, 2 stderr, 3 the final Status); v5 adds 255,
which closes a channel.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence

from aiohttp import WSMsgType, web

from harness.lab.kube.apierror import ApiError, bad_request
from harness.lab.kube.kubelet import PodWorker
from harness.lab.kube.logs import LogOptions
from harness.lab.kube.objects import Obj, is_true
from harness.lab.proc import die_with_parent

STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_FOLLOW_S = 0.5
_CHUNK_BYTES = 32 * 1024


def log_options(query: Mapping[str, str]) -> LogOptions:
    """From the query of ``pods/log``. Raises ApiError 400 for a value that is no number."""

    def number(key: str) -> int | None:
        text = query.get(key)
        if not text:
            return None
        if not text.lstrip("-").isdigit():
            raise bad_request(f"{key}: Invalid value: {text!r}")
        return int(text)

    return LogOptions(
        tail_lines=number("tailLines"),
        since_s=number("sinceSeconds"),
        timestamps=is_true(query.get("timestamps")),
        limit_bytes=number("limitBytes"),
    )


async def stream_logs(request: web.Request, worker: PodWorker) -> web.StreamResponse:
    """The answer of ``pods/log``, following the file while the container runs if asked to."""
    query = request.query
    book = worker.logs
    if is_true(query.get("previous")):
        if worker.previous_logs is None:
            raise bad_request(f'previous terminated container in pod "{worker.name}" not found')
        book = worker.previous_logs
    options = log_options(query)
    if book.path is None:
        raise bad_request(f'container in pod "{worker.name}" is waiting to start')
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    data, offset = book.read(options)
    await response.write(data)
    rest = LogOptions(timestamps=options.timestamps)
    follow = is_true(query.get("follow"))
    while follow and worker.pid is not None and worker.logs is book:
        await asyncio.sleep(_FOLLOW_S)
        data, offset = book.read(rest, offset)
        if data:
            await response.write(data)
    await response.write_eof()
    return response


def _success() -> Obj:
    return {"metadata": {}, "status": "Success"}


def _exit_status(code: int) -> Obj:
    """The final message of an exec."""
    if code == 0:
        return _success()
    shown = 128 - code if code < 0 else code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit code {shown}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(shown)}]},
        "code": 500,
    }


class Exec:
    """Runs one command with a pod's environment, wired to a WebSocket."""

    def __init__(self, request: web.Request, worker: PodWorker) -> None:
        query = request.query
        self._request = request
        self._worker = worker
        self._command = query.getall("command", [])
        self._stdin = is_true(query.get("stdin"))
        if not self._command:
            raise bad_request("you must specify at least one command for the container")
        if worker.pid is None:
            message = f'container of pod "{worker.name}" is not running'
            raise ApiError(500, "InternalError", message)
        self._socket = web.WebSocketResponse(protocols=PROTOCOLS)

    async def run(self) -> web.WebSocketResponse:
        """Serve the WebSocket until the command ends; it is killed if the client leaves."""
        await self._socket.prepare(self._request)
        try:
            process = await self._start(self._command)
        except OSError as error:
            text = f'exec: "{self._command[0]}": {error.strerror}'
            failure = {**_exit_status(127), "message": text, "reason": "InternalError"}
            await self._send(ERROR, json.dumps(failure).encode())
            await self._socket.close()
            return self._socket
        reader = asyncio.create_task(self._read_client(process))
        try:
            await asyncio.gather(
                self._pump(process.stdout, STDOUT), self._pump(process.stderr, STDERR)
            )
            code = await process.wait()
            await self._send(ERROR, json.dumps(_exit_status(code)).encode())
            await self._socket.close()
        finally:
            reader.cancel()
            _kill_group(process)
        return self._socket

    async def _start(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        parent_pid = os.getpid()
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if self._stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self._worker.env},
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent_pid),
        )

    async def _send(self, channel: int, data: bytes) -> None:
        if not self._socket.closed:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def _pump(self, stream: asyncio.StreamReader | None, channel: int) -> None:
        while stream and (data := await stream.read(_CHUNK_BYTES)):
            await self._send(channel, data)

    async def _read_client(self, process: asyncio.subprocess.Process) -> None:
        """Pass stdin on; a client that goes away ends the command."""
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                continue
            raw = message.data if isinstance(message.data, bytes) else message.data.encode()
            if not raw or process.stdin is None:
                continue
            if raw[0] == STDIN:
                process.stdin.write(raw[1:])
                await process.stdin.drain()
            elif raw[0] == CLOSE and raw[1:2] == bytes([STDIN]):
                process.stdin.close()
        _kill_group(process)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
