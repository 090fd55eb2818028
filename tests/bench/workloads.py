"""What is asked for, by every contestant alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One request and the size of its answer's body in bytes."""

    name: str
    method: str
    path: str
    answer_bytes: int
    body_bytes: int = 0


SMALL = Request("small", "GET", "/200.txt", 200)
LARGE = Request("large", "GET", "/64k.bin", 64 * 1024)
UPLOAD = Request("upload", "PUT", "/up", 2, body_bytes=256 * 1024)

#: workload → its requests and their shares
WORKLOADS: dict[str, dict[Request, int]] = {
    "small": {SMALL: 1},
    "large": {LARGE: 1},
    "upload": {UPLOAD: 1},
    "mix": {SMALL: 70, LARGE: 20, UPLOAD: 10},
    "tls": {SMALL: 1},
}
TITLES = {
    "small": "GET 200 B",
    "large": "GET 64 KiB",
    "upload": "PUT 256 KiB",
    "mix": "mix 70/20/10",
    "tls": "GET 200 B, TLS",
}


def only(workload: str) -> Request | None:
    """The one request of a workload; None for a mix."""
    requests = list(WORKLOADS[workload])
    return requests[0] if len(requests) == 1 else None
