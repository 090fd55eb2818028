"""Judging the judge: game days that went wrong in one known way, and what must be said of them.

A *world* says what is true (``world.py``: when a zone is turned away, what Prometheus answers, how
late the generator is). ``simulate`` turns plan and world into the evidence a run of it would have
left. A *case* changes a few fields of the world and says which finding and exit status must
result (``cases.py``, ``defects.yaml``, ``healthy.yaml``); ``check`` holds the judge against it.
"""
