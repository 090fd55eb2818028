"""Runs over months: one SQLite file that remembers what each judged run showed."""

from harness.history.record import Record, record_of
from harness.history.store import History

__all__ = ["History", "Record", "record_of"]
