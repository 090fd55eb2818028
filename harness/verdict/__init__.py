"""What a run means: pure functions of plan and evidence."""

from harness.verdict.judge import judge
from harness.verdict.model import Finding, Measured, Outcome, Verdict

__all__ = ["Finding", "Measured", "Outcome", "Verdict", "judge"]
