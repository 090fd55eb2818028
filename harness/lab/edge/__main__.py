"""Runs the edge: ``python -m harness.lab.edge --host … --port …``, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal

from harness.lab.edge.connection import Connection
from harness.lab.edge.server import Edge, Waits
from harness.lab.services.client import HttpClient
from harness.lab.services.dns import Resolver
from harness.lab.services.metrics import CONTENT_TYPE

_BACKLOG = 4096


async def serve(args: argparse.Namespace) -> None:
    """Serve until told to stop. Raises OSError when an address is taken."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    resolver = Resolver(address(args.dns))
    client = HttpClient(resolver, connect_timeout_s=Waits.connect_s)
    edge = Edge(client, address(args.origin))
    server = await loop.create_server(
        lambda: Connection(edge), args.host, args.port, backlog=_BACKLOG
    )
    metrics = await asyncio.start_server(_exposer(edge), args.host, args.metrics_port)
    await stop.wait()
    server.close()
    metrics.close()
    await client.close()
    await resolver.close()


def _exposer(edge: Edge):  # type: ignore[no-untyped-def]
    async def expose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """``/metrics``, and ``/health``, one request to a connection."""
        try:
            async with asyncio.timeout(5.0):
                head = await reader.readuntil(b"\r\n\r\n")
                body = edge.metrics.render() if head.startswith(b"GET /metrics") else b"ok\n"
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
                    b"connection: close\r\n\r\n%b" % (CONTENT_TYPE, len(body), body)
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return expose


def address(text: str) -> tuple[str, int]:
    """``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Entry point."""
    import uvloop

    parser = argparse.ArgumentParser(prog="harness.lab.edge")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--dns", required=True, help="host:port of the lab's DNS server")
    parser.add_argument("--origin", required=True, help="host:port the rest goes to")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(args))


if __name__ == "__main__":
    main()
