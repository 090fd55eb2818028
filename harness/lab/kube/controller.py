"""The loop that keeps the cluster as its objects say.

A controller names the keys a change concerns and brings one key's state in line.
Reconciling is plain, synchronous code on the store, so it needs no locks and no
tasks; keys are handled in order of arrival, each at most once per round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from harness.lab.kube.store import Change, Store

Key = tuple[str, str]
#: Runs a function after so many seconds; returns how to cancel it.
Later = Callable[[float, Callable[[], None]], Callable[[], None]]

_SLICE = 100


class Controller(Protocol):
    def keys_for(self, change: Change) -> Iterable[Key]:
        """Keys (namespace, name) to look at after this change."""
        ...

    def reconcile(self, key: Key) -> float | None:
        """Bring one key in line; returns seconds after which to look again, if needed."""
        ...


class ControllerManager:
    """Feeds store changes to controllers."""

    def __init__(self, store: Store, controllers: Sequence[Controller], later: Later) -> None:
        self._controllers = controllers
        self._later = later
        self._dirty: dict[tuple[int, Key], None] = {}
        self._timers: dict[tuple[int, Key], Callable[[], None]] = {}
        self._cancel_drain: Callable[[], None] | None = None
        self._unsubscribe = store.subscribe(self._on_change)
        self._stopped = False

    def stop(self) -> None:
        """No controller acts after this."""
        self._stopped = True
        self._unsubscribe()
        self._dirty.clear()
        for cancel in self._timers.values():
            cancel()
        self._timers.clear()

    def _on_change(self, change: Change) -> None:
        for index, controller in enumerate(self._controllers):
            for key in controller.keys_for(change):
                self._mark((index, key))

    def _mark(self, item: tuple[int, Key]) -> None:
        if self._stopped:
            return
        self._dirty[item] = None
        if self._cancel_drain is None:
            self._cancel_drain = self._later(0.0, self._drain_slice)

    def _drain_slice(self) -> None:
        """Handle some keys, then let others use the event loop."""
        self._cancel_drain = None
        try:
            for _ in range(_SLICE):
                if not self._dirty:
                    return
                self._step()
        finally:
            if self._dirty and self._cancel_drain is None and not self._stopped:
                self._cancel_drain = self._later(0.0, self._drain_slice)

    def _step(self) -> None:
        item = next(iter(self._dirty))
        del self._dirty[item]
        if cancel := self._timers.pop(item, None):
            cancel()
        index, key = item
        again_s = self._controllers[index].reconcile(key)
        if again_s is not None and not self._stopped:
            self._timers[item] = self._later(again_s, lambda: self._again(item))

    def _again(self, item: tuple[int, Key]) -> None:
        self._timers.pop(item, None)
        self._mark(item)
