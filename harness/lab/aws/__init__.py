"""The lab's AWS API: moto, seeded with the lab's account, told the lab's truth.

moto keeps what callers *asked for*; the lab's processes are what *is*. The supervisor
reads the first (``GET /_lab/state``, a long poll), makes the processes follow, and
reports the second back (``PUT /_lab/truth``), from which the API then answers.
What this stand-in does and does not do is listed in ``docs/lab-gaps.md``.
"""
