"""Where the time goes between encoded bytes and scores: what readers and actors do, in one process, profiled.

    python tests/benchmarks/profile_pool.py [--data DIR] [--rows N] [--top N]

One thread, no Ray; processor time, so that other work does not count. Each line is a part with all that it
calls, as a share of the whole; `--top` adds the functions that take most by themselves.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from bench_pool import Lab, images, parquet_pool

from pipeline.config.sections import Storage
from pipeline.images import decode
from pipeline.model.network import normalise
from pipeline.pool import parquet as pool_parquet
from pipeline.pool import reading
from pipeline.pool.pieces import Reading
from pipeline.pool.shards import survey, units
from pipeline.pool.snapshot import SnapshotWriter
from pipeline.pool.source import PoolSource
from pipeline.score import scorer as stages
from pipeline.store.opening import open_store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from sisom import scoring
from sisom.network import features

PARTS: dict[str, Callable[..., Any]] = {
    "reading": reading.ReadShards.__call__,
    "  from Parquet to encoded bytes": pool_parquet._read,
    "  from encoded bytes to pixels": decode.decode_batch,
    "  pixels into one row": reading._Batch.table,
    "scoring": stages.Scorer.__call__,
    "  from one row to pixels": stages._rows,
    "  normalising": normalise,
    "  the network, forward and backward": features.extract,
    "  distances and scores": scoring.score,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--top", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stats = profiled(Lab(Path(name), "cifar_resnet18", 32, 64), images(options.data, options.rows, 32))
    times: Any = stats.stats  # type: ignore[attr-defined]
    whole = sum(times[place(part)][3] for part in (PARTS["reading"], PARTS["scoring"]))
    print(
        f"| of {options.rows} images, {options.rows / whole:.0f} images/s of processor time | share |\n|---|---|"
    )
    for label, part in PARTS.items():
        print(f"| {label.replace('  ', '... ')} | {times[place(part)][3] / whole:.1%} |")
    if options.top:
        stats.sort_stats("tottime").print_stats(options.top)


def profiled(lab: Lab, encoded: list[bytes]) -> pstats.Stats:
    """Read and score all images as a reader and an actor do."""
    config = lab.config(parquet_pool(lab.folder / "pool", encoded))
    writer = SnapshotWriter(Folder(Workspace(open_store(str(lab.folder / "out"), Storage()))))
    source = PoolSource.of(config)
    for unit in units(source):
        for group in survey(unit, source).groups:
            writer.add(group.listed, group.digest)
    snapshot = writer.close()
    how = Reading(source)
    read = reading.ReadShards(snapshot.folder, how, config.model.transform(10**8), lab.batch)
    options = stages.ScoringOptions(config.taxonomy, "sisome", lab.batch, "cpu", 1)
    score = stages.Scorer(lab.network(), lab.bank(), options)
    score(next(read(snapshot.table)))  # what is made once

    def work() -> None:
        for batch in read(snapshot.table):
            sink = pa.BufferOutputStream()  # as it goes through the object store
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_table(batch)
            score(pa.ipc.open_stream(sink.getvalue()).read_all())

    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    return pstats.Stats(profile)


def place(function: Callable[..., Any]) -> tuple[str, int, str]:
    """How a profile names a function."""
    code = function.__code__
    return code.co_filename, code.co_firstlineno, code.co_name


if __name__ == "__main__":
    main()
