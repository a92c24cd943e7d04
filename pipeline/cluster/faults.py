"""Ray's errors about dead workers, as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from pipeline.errors import StageFailed, ours


@contextmanager
def working(stage: str) -> Iterator[None]:
    """Turn Ray's errors about dead workers and lost nodes into ours.

    Raises:
        StageFailed: a worker died, or what it had made was lost, more often than Ray tries again.
        PipelineError: whatever of ours is behind an error that Ray has wrapped.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        if (behind := ours(error)) is not None:
            raise behind from error
        if isinstance(error, ray.exceptions.RayTaskError):  # a mistake of ours: its traceback tells more
            raise
        why = " ".join((str(error).strip() or type(error).__name__).split())[:200]
        failed = StageFailed(
            f"{stage}: a worker or a node was lost ({type(error).__name__}: {why}); run the same command again: "
            f"it goes on where it stopped; if this comes again, the nodes have too little memory (see `ray memory`)"
        )
        failed.stage = stage
        raise failed from error


def deaths() -> int:
    """Return how often this Ray task was retried because its process died.

    The number of attempts is the only trace of such a death.
    """
    worker: Any = ray._private.worker.global_worker
    return int(worker.core_worker.get_current_task_attempt_number())
