"""Work on all score files of a pool.

Each file is a task on the workers, a few at a time; results are returned as they come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from pipeline.workspace import keys
from pipeline.workspace.folder import Folder

T = TypeVar("T")

IN_FLIGHT = 64  # files at a time, so that the results that wait for the driver do not grow with the pool


def score_files(folder: Folder) -> list[str]:
    """List the names of a folder's score files, sorted."""
    return [name for name in folder.names(keys.SCORES) if name.endswith(".parquet")]


@dataclass(frozen=True)
class _FileTask:
    """A function of score files, and the columns that it reads."""

    work: Callable[..., Any]
    folder: Folder
    columns: list[str]


def _on_file(task: _FileTask, name: str, *shared: Any) -> Any:
    return task.work(task.folder.row_groups(name, task.columns), *shared)


def each_file(work: Callable[..., T], folder: Folder, columns: list[str], *shared: Any) -> Iterator[T]:
    """Call `work(row groups, *shared)` for every score file of a folder.

    Results are yielded in the order in which they are done.

    Args:
        work: a module's function. It takes an iterator of tables, one a row group, and what is shared. Where its
            results are folded, the fold must not mind their order.
        folder: of the round, which holds the score files.
        columns: what of each row is read.
        shared: given to each call; put into the object store once.
    """
    files = score_files(folder)
    if len(files) == 1:  # not worth the start of a worker
        yield _on_file(_FileTask(work, folder, columns), files[0], *shared)
        return
    waiting = iter(files)
    task = ray.remote(num_cpus=1)(_on_file)
    one = _FileTask(work, folder, columns)
    refs = [ray.put(value) for value in shared] if files else []
    flying = [task.remote(one, name, *refs) for name in islice(waiting, IN_FLIGHT)]
    while flying:
        (done, *_), flying = ray.wait(flying)
        flying += [task.remote(one, name, *refs) for name in islice(waiting, 1)]
        yield ray.get(done)


def shards_of(folder: Folder, asked: Mapping[str, str]) -> dict[int, frozenset[str]]:
    """Find the shards in which scored images lie.

    Args:
        folder: of the round, which holds the score files.
        asked: the URI of each id. Score files are in the order of the pool: where no such URI can be, nothing is read.

    Returns:
        The ids in each shard.
    """
    files = score_files(folder) if asked else []
    if len(files) == 1:  # not worth the start of a worker
        answers = [_held(folder, files[0], asked)]
    else:
        find: Any = ray.remote(num_cpus=0.25)(_held)
        shared = ray.put(dict(asked))
        answers = ray.get([find.remote(folder, name, shared) for name in files])
    ids_by_shard: dict[int, set[str]] = defaultdict(set)
    for shard, name in (place for answer in answers for place in answer):
        ids_by_shard[shard].add(name)
    return {shard: frozenset(names) for shard, names in ids_by_shard.items()}


def columns_of(folder: Folder, ids: Sequence[str], columns: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Find columns of scored images.

    Args:
        folder: of the round, which holds the score files.
        ids: of the images.
        columns: their names.

    Returns:
        The values of each id, in the order of the columns.
    """
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, tuple[Any, ...]] = {}
    for rows in each_file(_rows_of, folder, ["id", *columns], wanted, list(columns)):
        found |= rows
    return found


def _rows_of(
    parts: Iterable[pa.Table], wanted: pa.StringArray, columns: Sequence[str]
) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for part in parts:
        rows = part.filter(pc.is_in(part["id"], value_set=wanted))
        values = zip(*(rows[name].to_pylist() for name in columns), strict=True)
        found |= dict(zip(rows["id"].to_pylist(), values, strict=True))
    return found


def _held(folder: Folder, name: str, asked: Mapping[str, str]) -> list[tuple[int, str]]:
    """Return (shard, id) of the asked images in a score file."""
    ids = pa.array(sorted(asked), pa.string())
    places: list[tuple[int, str]] = []
    with folder.undamaged(name), folder.open(name) as file:
        parquet = pq.ParquetFile(file)
        column = parquet.schema_arrow.get_field_index("uri")
        for group in range(parquet.num_row_groups):
            span = parquet.metadata.row_group(group).column(column).statistics
            if span is not None and span.has_min_max:
                low, high = span.min, span.max
                if not any(low <= uri <= high for uri in asked.values()):
                    continue
            rows = parquet.read_row_group(group, ["id", "shard"], use_threads=False)
            rows = rows.filter(pc.is_in(rows["id"], value_set=ids))
            places += zip(rows["shard"].to_pylist(), rows["id"].to_pylist(), strict=True)
    return places
