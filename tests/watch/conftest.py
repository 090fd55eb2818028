"""The target's stand-ins serve the watch's tests too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "target"))
