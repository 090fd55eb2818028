"""A process that makes a fault and stops dead at a given point, to be killed there.

``python actor.py TARGET RUN_DIR POINT``; prints ``at POINT`` when there.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from harness.chaos import session as sessions
from harness.chaos.actions import network
from harness.chaos.registry import reach_for
from harness.chaos.session import Session
from harness.chaos.undo import UndoLog
from harness.clock import SystemClock

POINTS = ("after-intent", "acl-created", "half-made", "made")


def stop_here(point: str) -> None:
    sys.stdout.write(f"at {point}\n")
    sys.stdout.flush()
    threading.Event().wait()


def then_stop(function: Any, point: str) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        function(*args, **kwargs)
        stop_here(point)

    return wrapped


def main(target: str, run_dir: str, point: str) -> None:
    session = Session(
        target_file=Path(target), run_dir=Path(run_dir), fault="region", clock=SystemClock()
    )
    sessions.use(session)
    if point == "after-intent":
        UndoLog.intent = then_stop(UndoLog.intent, point)
    elif point == "acl-created":
        network._create_acl = then_stop(network._create_acl, point)
    elif point == "half-made":
        reach_for(session.target_file).aws("ec2", "us-east-1").meta.events.register(
            "after-call.ec2.ReplaceNetworkAclAssociation", lambda **_: stop_here(point)
        )
    elif point == "made":
        UndoLog.made = then_stop(UndoLog.made, point)
    network.isolate_region("us-east-1")


if __name__ == "__main__":
    main(*sys.argv[1:])
