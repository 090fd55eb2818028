"""A call that ends in time, whatever the other side does.

Socket timeouts bound each read, not the whole answer: a server that sends one
byte a second, or a name lookup that hangs, outlives them. Here the call runs in
a thread of its own and the caller leaves when the time is up. The thread is a
daemon, so it can keep neither the run nor the interpreter from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Late(Exception):
    """The call did not end in time."""


def call_within(
    timeout_s: float, call: Callable[[], T], *, on_late: Callable[[], None] | None = None
) -> T:
    """The result of ``call()``, or its exception; :class:`Late` after ``timeout_s`` seconds.

    ``on_late`` should unblock the abandoned call (by closing its socket, say).
    """
    done = threading.Event()
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["result"] = call()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            box["error"] = error
        finally:
            done.set()

    threading.Thread(target=run, name="call-within", daemon=True).start()
    if not done.wait(max(0.0, timeout_s)):
        if on_late is not None:
            on_late()
        raise Late(f"no answer within {timeout_s:g} s")
    if "error" in box:
        raise box["error"]
    return box["result"]
