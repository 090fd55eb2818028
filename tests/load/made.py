"""Exchanges as tests want them."""

from __future__ import annotations

from collections.abc import Mapping

from harness.load.wire.client import Exchange
from harness.load.wire.message import parse_head


def made(
    status: int = 0,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    error: str = "",
    sent: bool = True,
) -> Exchange:
    """An exchange that ended so."""
    exchange = Exchange(error)
    exchange.sent = sent
    if status:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        exchange.head = parse_head(("\r\n".join(lines) + "\r\n\r\n").encode())
        exchange.status = status
        exchange.body = body
        exchange.size_bytes = len(body)
    return exchange
