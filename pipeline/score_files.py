"""Over all score files of a pool: a task a file on the workers, a few at a time, results as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import ray

from pipeline.workspace import Workspace

T = TypeVar("T")

IN_FLIGHT = 64  # files asked about at a time, so that what waits for the driver does not grow with the pool


def each_file(
    work: Callable[..., T], workspace: Workspace, prefix: str, columns: list[str], *shared: Any
) -> Iterator[T]:
    """`work(row groups, *shared)` for every score file below `prefix`, in the order in which they are done.

    Args:
        work: a module's function. It takes an iterator of tables, one a row group, and what is shared. Where its
            results are folded, the fold must not mind their order.
        workspace: where the files lie.
        prefix: of the round, such as `rounds/003/`.
        columns: what of each row is read.
        shared: given to each call; put into the object store once.
    """
    keys = [key for key in workspace.keys(f"{prefix}scores/") if key.endswith(".parquet")]
    if len(keys) == 1:  # not worth the start of a worker
        yield _on_file(work, workspace, keys[0], columns, *shared)
        return
    waiting = iter(keys)
    task = ray.remote(num_cpus=1)(_on_file)
    refs = [ray.put(value) for value in shared] if keys else []
    flying = [task.remote(work, workspace, key, columns, *refs) for key in islice(waiting, IN_FLIGHT)]
    while flying:
        (done, *_), flying = ray.wait(flying)
        flying += [task.remote(work, workspace, key, columns, *refs) for key in islice(waiting, 1)]
        yield ray.get(done)


def _on_file(work: Callable[..., T], workspace: Workspace, key: str, columns: list[str], *shared: Any) -> T:
    return work(workspace.row_groups(key, columns), *shared)
