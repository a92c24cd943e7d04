"""The processes of Ray Tune's trials, kept from batch to batch."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache

GATHER_S: Final = 15.0  # longer than a process takes to start


class Waiting(_ObjectCache):
    """Processes that wait for a trial; none goes before the end.

    The first is handed out when `enough` have come, or `GATHER_S` later, since a cluster may have no room for all: a
    trial that is given a waiting process makes Ray Tune stop the one that is starting for it.
    """

    def __init__(self, enough: int) -> None:
        super().__init__()
        self._enough = enough
        self._come: set[Any] = set()
        self._since = math.inf

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep a process whose trial has ended."""
        self._since = min(self._since, time.monotonic())
        self._come.add(obj)
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def has_cached_object(self, key: Any) -> bool:
        """Return whether a process may be handed out."""
        gathered = len(self._come) >= self._enough or time.monotonic() > self._since + GATHER_S
        return gathered and super().has_cached_object(key)

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """Let all go at the end, and none before."""
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


@contextmanager
def kept_processes(parallel: int) -> Iterator[None]:
    """Keep the processes of a batch of trials for the next batch.

    Ray Tune keeps but one of them while no trial waits, and none waits between two batches. Another one takes seconds
    of processor time to start, more than most trials.
    """
    controller: Any = tune_controller
    usual = controller._ObjectCache
    controller._ObjectCache = lambda **_: Waiting(parallel)
    try:
        yield
    finally:
        controller._ObjectCache = usual
