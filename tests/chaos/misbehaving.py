"""Activities and a control that do what goes wrong, for experiments of tests."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from chaoslib.exceptions import InterruptExecution

from harness.chaos.actions import network

_asked = 0


def break_and_raise() -> None:
    """Makes the fault, and fails."""
    network.isolate_zone("us-east-1a")
    raise OSError("broken, and failed")


def fail() -> None:
    """Fails."""
    raise OSError("failed")


def signal_self(name: str) -> str:
    """What a signal to Chaos Toolkit does while a Python function runs."""
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.3)
    return "went on"


def probe(values: list[Any]) -> Any:
    """The first of ``values`` at the first call, and so on, the last for ever; ``raise`` raises."""
    global _asked
    value = values[min(_asked, len(values) - 1)]
    _asked += 1
    if value == "raise":
        raise OSError("503")
    return float("nan") if value == "nan" else value


_hook: dict[str, str] = {}
_ERRORS = {"InterruptExecution": InterruptExecution, "exit": SystemExit}


def configure_control(hook: str, how: str) -> None:
    """Called first: ``hook`` will raise ``how``."""
    _hook[hook] = how


def after_method_control(*_: Any, **__: Any) -> None:
    _raise_in("after_method")


def before_rollback_control(*_: Any, **__: Any) -> None:
    _raise_in("before_rollback")


def after_experiment_control(*_: Any, **__: Any) -> None:
    _raise_in("after_experiment")


def _raise_in(hook: str) -> None:
    if hook in _hook:
        raise _ERRORS[_hook[hook]]("a control that fails")


def leak(file: str) -> None:
    """Says all that ``file`` (a JSON list) holds, on every way there is, and raises it."""
    said = json.loads(Path(file).read_text())
    for text in said:
        sys.stdout.write(f"{text}\n")
        logging.getLogger("chaostoolkit").error(text)
    raise OSError(" ".join(said))
