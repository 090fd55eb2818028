"""The control attached to each experiment: it frames the run and leaves nothing behind.

Chaos Toolkit swallows what a control raises, so nothing here is needed for safety: the
undo log and the watchdog are. The control tells the session the fault's name, gives stock
tools (chaosk8s) the environment of the target, and at the end, however it comes, undoes
what the rollbacks left open, says so in the journal, and closes the experiment's evidence.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from harness.chaos import session as sessions
from harness.errors import HarnessError

logger = logging.getLogger("chaostoolkit")

JOURNAL_KEY = "x-harness"


def configure_control(fault: str = "fault") -> None:
    """Called once before anything of the experiment runs."""
    sessions.expect_fault(fault)
    session = sessions.current()
    for key, value in session.reach.target.environment.items():
        os.environ.setdefault(key, value)
    _point_stock_tools_at(session.reach.target.kubeconfig)


def after_experiment_control(context: Any, state: dict[str, Any], fault: str = "fault") -> None:
    """Undo what is still open and stamp the journal (``state``), which becomes the exit code."""
    session = sessions.current()
    failed_already = any(run.get("status") == "failed" for run in state.get("rollbacks") or ())
    report = session.undo_all()
    state[JOURNAL_KEY] = {
        "run_dir": str(session.run_dir),
        "fault": session.fault,
        "undo": sessions.describe(report),
    }
    if not report.complete:
        logger.error("A fault is still in place: run `harness recover` on the run folder")
        state["status"] = "failed"
    elif failed_already and report.undone:
        logger.warning("A rollback failed; what it left open has been undone now")
    if _not_restored(state):
        logger.warning("The system did not come back by itself after the fault")
        state["deviated"] = True


def cleanup_control() -> None:
    """Called last, also where ``after_experiment_control`` was not."""
    session = sessions.existing()
    if session is None:
        return
    try:
        session.undo_all().raise_if_incomplete()
    except (HarnessError, OSError) as error:
        logger.error(str(error))
    session.close()
    sessions.use(None)


def _point_stock_tools_at(kubeconfig: str) -> None:
    """Make chaosk8s use the target's kubeconfig: a stray ~/.kube/config must not be hit."""
    from kubernetes.config import kube_config

    os.environ["KUBECONFIG"] = kubeconfig
    # The client reads the variable when it is imported, which validation has done already.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = kubeconfig


def _not_restored(state: dict[str, Any]) -> bool:
    """Whether any undo of this run says that the system did not come back."""
    outputs = [run.get("output") for run in state.get("rollbacks") or ()]
    outputs.append(state[JOURNAL_KEY]["undo"])
    return any(isinstance(o, dict) and o.get("not_restored") for o in outputs)
