"""One GET to one address, with a deadline for the whole of it.

The address is given apart from the URL, because which region's address answers is the
very thing asked. Redirects are answers like any other and not followed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.target.deadline import Late, call_within

BODY_MAX_BYTES = 65536


@dataclass(frozen=True)
class Answer:
    """Status and headers (names in lower case) of an answer."""

    status: int
    headers: dict[str, str]


def get(url: str, address: str, timeout_s: float) -> Answer:
    """GET ``url`` from the host at ``address``; raises OSError if not answered in time."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection(parts.hostname or "", port, timeout=timeout_s)
    connect = _connector(parts.scheme, parts.hostname or "", (address, port), timeout_s)

    def ask() -> Answer:
        connection.sock = connect()
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        response.read(BODY_MAX_BYTES)
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()})

    try:
        return call_within(timeout_s, ask, on_late=connection.close)
    except Late as error:
        raise TimeoutError(f"{url} at {address}: {error}") from error
    except http.client.HTTPException as error:
        raise OSError(f"{url} at {address}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _connector(
    scheme: str, host: str, where: tuple[str, int], timeout_s: float
) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        sock = socket.create_connection(where, timeout=timeout_s)
        if scheme != "https":
            return sock
        return ssl.create_default_context().wrap_socket(sock, server_hostname=host)

    return connect
