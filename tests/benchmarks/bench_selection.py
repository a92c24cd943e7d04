"""Selecting from, and viewing, the score files of pools of 1 and of 10 million rows: seconds, rows/s, peak memory.

    python tests/benchmarks/bench_selection.py [--millions 1 10] [--answered 100000]

Each line is a process of its own. `alone` folds all files one after another in that process, so its peak resident
memory is that of a worker and the driver in one; `workers` is the round's own way, a task a file on a local Ray of
`--cpus` CPUs, and its peak is the driver's. The rows are synthetic, in files of a million with row groups of 65,536.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.types import SCORES  # noqa: E402
from pipeline.workspace.folder import Folder  # noqa: E402

FILE_ROWS = 1_000_000
PREFIX = "rounds/000/"


def generate(folder: Path, files: int) -> int:
    """Write the files; gives their bytes."""
    place = folder / PREFIX / "scores"
    place.mkdir(parents=True)
    for number in range(files):
        rng = np.random.default_rng(number)
        rows = np.arange(number * FILE_ROWS, (number + 1) * FILE_ROWS)
        columns: dict[str, object] = {
            "id": [f"image-{row:012d}" for row in rows],
            "uri": [f"s3://bucket/pool/{row // 50_000:06d}.parquet" for row in rows],
            "shard": (rows // 500).astype(np.int32),
            "predicted": np.asarray([f"class {i}" for i in range(100)])[rng.integers(0, 100, FILE_ROWS)],
            "is_ood": rng.random(FILE_ROWS) < 0.05,
        }
        for name in ("inner", "outer", "ratio", "energy", "sisom", "sisome"):
            columns[name] = rng.normal(size=FILE_ROWS).astype(np.float32)
        table = pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)
        pq.write_table(table, place / f"{number:06d}.parquet", compression="zstd", row_group_size=65_536)
    return sum(path.stat().st_size for path in place.iterdir())


def measure(folder: str, how: str, what: str, answered: int, cpus: int) -> None:
    """In a process of its own: do it, and print what it took."""
    from pipeline.ask import selection
    from pipeline.config.choices import QueryPlan
    from pipeline.config.sections import Storage
    from pipeline.report import histogram
    from pipeline.report.histogram import summarize_scores
    from pipeline.store.opening import open_store
    from pipeline.workspace.artefacts import Workspace

    workspace = Workspace(open_store(folder, Storage()))
    plan = QueryPlan(size=1000, strategy="sisome", ood_share=0.1)
    ids = [f"image-{row * 7:012d}" for row in range(answered)]
    known = pa.array(ids, pa.string())

    rules = selection.QueryRules(plan, None, 0)

    def select_alone() -> None:
        kept = selection.CANDIDATES.empty_table()
        for key in workspace.keys(f"{PREFIX}scores/"):
            found = selection.candidates(workspace.row_groups(key, selection.COLUMNS), known, rules)
            kept = selection.merge([kept, found], plan)
        assert selection.query(kept, plan, None).num_rows == plan.size

    def view_alone() -> None:
        total = histogram.Counts(histogram.PLACES.empty_table(), 0)
        for key in workspace.keys(f"{PREFIX}scores/"):
            parts = workspace.row_groups(key, ["id", "sisome", "is_ood"])
            total = histogram.add([total, histogram.count_rows(parts, "sisome", histogram.Groups(known))])
        assert histogram.summary(total).counts

    def select_on_workers() -> None:
        kept = selection.gather(Folder(workspace, PREFIX), rules, answered=frozenset(ids))
        assert selection.query(kept, plan, None).num_rows == plan.size

    def view_on_workers() -> None:
        assert summarize_scores(
            Folder(workspace, PREFIX), "sisome", truth=None, labeled=frozenset(ids)
        ).counts

    ways: dict[tuple[str, str], Callable[[], None]] = {
        ("alone", "select"): select_alone,
        ("alone", "view"): view_alone,
        ("workers", "select"): select_on_workers,
        ("workers", "view"): view_on_workers,
    }
    if how == "workers":
        import ray

        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    ways[how, what]()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak": peak / 1024, "start": start / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--answered", type=int, default=100_000)
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--measure", nargs=3, metavar=("FOLDER", "HOW", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.answered, options.cpus)
        return
    peaks: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sisom-bench-") as folder:
        for millions in options.millions:
            place = Path(folder, str(millions))
            size = generate(place, millions)
            print(f"{millions} million rows, {size / 2**20:.0f} MiB, {options.answered} ids answered")
            for how in ("alone", "workers"):
                for what in ("select", "view"):
                    command = [sys.executable, __file__, "--measure", str(place), how, what]
                    command += ["--answered", str(options.answered), "--cpus", str(options.cpus)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found = json.loads(done.stdout.splitlines()[-1])
                    peaks.setdefault((how, what), []).append(found["peak"])
                    rate = millions * FILE_ROWS / found["seconds"]
                    print(
                        f"  {what:<6} {how:<7} {found['seconds']:6.1f} s {rate:12,.0f} rows/s   peak "
                        f"{found['peak']:5.0f} MiB, of which {found['start']:5.0f} before it began"
                    )
    for (how, what), found_peaks in peaks.items():
        print(
            f"{what} {how}: peak of the largest over that of the smallest {found_peaks[-1] / found_peaks[0]:.2f}"
        )


if __name__ == "__main__":
    main()
