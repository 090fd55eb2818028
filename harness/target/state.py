"""Where this user's machine keeps what outlasts a run folder: leases, approvals that were used."""

from __future__ import annotations

import os
from pathlib import Path


def state_dir() -> Path:
    """``$XDG_STATE_HOME/harness``, by default ``~/.local/state/harness``; may not exist yet."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "harness"
