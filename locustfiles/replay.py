"""Traffic as it was recorded: the requests of an access log or HAR file, at their own instants.

Try it alone; it ends with the recording, or goes on with ``--loop`` until ``-t`` is over::

    locust -f locustfiles/replay.py --host http://localhost:8080 --headless \
        --recording access.log.gz --speed 2

docs/replay.md says which formats are read and what is sent of them.
"""

from typing import ClassVar

from harness.load.replay import RecordedUser


class ReplayUser(RecordedUser):
    """What a log does not hold goes with every request; read secrets from the environment."""

    headers: ClassVar = {"User-Agent": "harness-replay"}
