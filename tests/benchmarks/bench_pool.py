"""The pool at scale, figure by figure: the engine against bare loops, its memory, its scaling, what a resume costs.

    python tests/benchmarks/bench_pool.py [parquet s3 scaling memory resume] [--data DIR] [--rows N]

DIR holds Parquet files with columns `id` and `image`, such as CIFAR-10; without it, images of noise are made.
Steady state runs from a tenth of the rows to nine tenths: start-up is told apart. All ratios are of one run.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
LAYERS = ["layer1", "layer2", "layer3", "avgpool"]


@dataclass(frozen=True)
class Lab:
    """What is scored, and by which network."""

    folder: Path
    model: str
    size: int
    batch: int

    def config(self, pool: str, **changes: Any) -> Any:
        from pipeline.config.project import Config

        plain = {
            "workspace": "unused",
            "taxonomy": [str(i) for i in range(10)],
            "pool": {"uri": pool},
            "oracle": {"kind": "simulated", "truth": "unused"},
            "model": {"name": self.model, "image_size": self.size, "layers": LAYERS},
            "scoring": {"batch_size": self.batch, "max_quarantined": 1.0},
        }
        return Config.model_validate_json(json.dumps(plain | changes))

    def network(self) -> Any:
        from pipeline.model.network import Network
        from sisom.network.models import build_model, save_weights

        net = build_model(self.model, 10, seed=0)
        return Network(self.config("unused").model, 10, np.frombuffer(save_weights(net), np.uint8))

    def bank(self) -> Any:
        """2,500 points, 5 % of 50,000, as a file in the folder; made once a model."""
        import sisom

        path = self.folder / f"bank-{self.model}.safetensors"
        if not path.exists():
            features = self.extractor()(
                np.random.default_rng(0).integers(0, 256, (320, 3, self.size, self.size), np.uint8)
            )
            rows = torch.arange(2500) % len(features)
            noise = torch.from_numpy(np.random.default_rng(1).normal(1, 0.01, (2500, 1)).astype(np.float32))
            many = features.select(rows)
            many = replace(many, saliency=many.saliency * noise)
            bank = sisom.fit_bank(many, rows % 10, slopes=1.0, subset=1.0, num_classes=10)
            replace(bank, threshold=0.0).save(path)
        return sisom.load_bank(path)

    def extractor(self) -> Any:
        from pipeline.model.extractor import Extractor

        return Extractor(self.network(), "cpu", self.batch)


# ------------------------------------------------------------------------------------------------- the engine


def child(lab: Lab, pool: str, out: Path, options: dict[str, Any], cpus: int | None, report: Path) -> None:
    """List and score a pool in this process, noting when images come out."""
    import ray

    from pipeline.cluster import joining as engine
    from pipeline.config.sections import Storage
    from pipeline.pool.listing import freeze
    from pipeline.pool.snapshot import Snapshot
    from pipeline.score.broadcast import BankFile, Models
    from pipeline.score.job import prepare, score_pool
    from pipeline.store.opening import open_store
    from pipeline.voice import Counter, Voice
    from pipeline.workspace.artefacts import Workspace
    from pipeline.workspace.folder import Folder

    marks: list[tuple[float, int]] = []
    seen = report.with_suffix(".seen")  # what a run that is killed has scored

    class Stopwatch(Voice):
        @contextmanager
        def counting(
            self, what: str, total: int, *, before: int = 0, publish: Any = None
        ) -> Iterator[Counter]:
            with super().counting(what, total, before=before, publish=publish) as counter:
                add = counter.add

                def noting(done: int, bad: int = 0) -> None:
                    add(done, bad)
                    marks.append((time.perf_counter(), counter.done))
                    seen.write_text(str(counter.done))

                counter.add = noting  # type: ignore[method-assign]
                yield counter

    config = lab.config(pool, **options)
    if cpus:
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    cluster = engine.start(config)
    workspace = Workspace(open_store(str(out), Storage()))
    began = time.perf_counter()
    if not workspace.exists("duplicates.parquet"):
        freeze(Folder(workspace), config, cluster=cluster)
    listed = time.perf_counter()
    file = BankFile(Workspace(open_store(str(lab.folder), Storage())), f"bank-{lab.model}.safetensors", "")
    models = Models(lab.network(), lab.bank(), file)
    job = prepare(Snapshot.read(Folder(workspace)), models, config, cluster=cluster)
    voice = Stopwatch()
    scored = score_pool(job, voice)
    ended = time.perf_counter()
    found = {
        "listing_s": listed - began,
        "first_s": marks[0][0] - listed,
        "last_s": ended - marks[-1][0],
        "steady": steady(marks, job.snapshot.rows),
        "rows": scored.images,
        "listed": scored.account.listed,
        "whole_s": ended - listed,
    }
    report.write_text(json.dumps(found))


def steady(marks: list[tuple[float, int]], rows: int) -> float:
    early = next((m for m in marks if m[1] >= rows * 0.1), marks[0])
    late = next((m for m in marks if m[1] >= rows * 0.9), marks[-1])
    return (late[1] - early[1]) / max(late[0] - early[0], 1e-9)


def engine_run(
    lab: Lab,
    pool: str,
    out: Path,
    *,
    cpus: int | None = None,
    stop_at: float | None = None,
    memory: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Score a pool in a process of its own; `stop_at` kills it when that share of the parts is there."""
    report = out.with_suffix(".json")
    report.unlink(missing_ok=True)
    plan = {"lab": [str(lab.folder), lab.model, lab.size, lab.batch], "pool": pool, "out": str(out)}
    plan |= {"options": options, "cpus": cpus, "report": str(report)}
    process = subprocess.Popen(
        [sys.executable, __file__, "parquet", "--child", json.dumps(plan)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL if stop_at else None,
        start_new_session=True,
    )
    watch = Memory(process.pid)
    if memory:  # looking costs a tenth of a core a process: not while speed is measured
        watch.start()
    if stop_at:
        while process.poll() is None:
            parts = len(list((out / "parts").glob("*.parquet"))) if (out / "parts").is_dir() else 0
            if (out / "shards.parquet").exists():
                shards = pq.read_metadata(out / "shards.parquet").num_rows
                if parts >= stop_at * shards:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
            time.sleep(0.1)
    process.wait()
    if memory:
        watch.over.set()
        watch.join()
    found = json.loads(report.read_text()) if report.exists() else {}
    return found | {"driver": watch.driver, "workers": watch.workers, "store": watch.store}


class Memory(threading.Thread):
    """Peak resident bytes of a driver, of its workers together, and of the shared memory that they use."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._shm = shutil.disk_usage("/dev/shm").used
        self.driver = self.workers = self.store = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.25):
            try:
                me = psutil.Process(self._pid)
                self.driver = max(self.driver, me.memory_full_info().uss)
                total = 0
                for process in me.children(recursive=True):
                    if process.name().startswith("ray::"):
                        total += process.memory_full_info().uss
                self.workers = max(self.workers, total)
            except psutil.Error:
                continue
            self.store = max(self.store, shutil.disk_usage("/dev/shm").used - self._shm)


# -------------------------------------------------------------------------------------------------- the rivals


def bare_rate(lab: Lab, pixels: np.ndarray[Any, Any], processes: int, threads: int) -> float:
    """Images per second of processes that loop over decoded pixels in memory: extract and score, nothing else."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(processes), context.Queue()
    parts = np.array_split(pixels, processes)
    rivals = [context.Process(target=bare, args=(lab, part, threads, barrier, seconds)) for part in parts]
    for rival in rivals:
        rival.start()
    slowest = max(seconds.get() for _ in rivals)
    for rival in rivals:
        rival.join()
    return len(pixels) / slowest


@contextmanager
def bracketed(lab: Lab, pixels: np.ndarray[Any, Any], *ways: tuple[int, int]) -> Iterator[list[float]]:
    """The rates of bare loops, each the mean of one before and one after what is done inside: machines drift."""
    before = [bare_rate(lab, pixels, *way) for way in ways]
    rates: list[float] = []
    yield rates
    after = [bare_rate(lab, pixels, *way) for way in ways]
    rates += [(a + b) / 2 for a, b in zip(before, after, strict=True)]


def bare(lab: Lab, pixels: np.ndarray[Any, Any], threads: int, barrier: Any, seconds: Any) -> None:
    import sisom

    torch.set_num_threads(threads)
    extract, bank = lab.extractor(), lab.bank()
    sisom.score(bank, extract(pixels[: lab.batch]))
    barrier.wait()
    began = time.perf_counter()
    for start in range(0, len(pixels), lab.batch):
        sisom.score(bank, extract(pixels[start : start + lab.batch]))
    seconds.put(time.perf_counter() - began)


# ----------------------------------------------------------------------------------------------------- images


def images(data: Path | None, rows: int, size: int) -> list[bytes]:
    """Encoded images: real ones, again and again where they are too few, or noise."""
    if data is not None:
        found: list[bytes] = []
        for path in sorted(data.glob("*.parquet")):
            if len(found) < rows:
                found += pq.read_table(path, columns=["image"])["image"].to_pylist()
    else:
        found = []
        for seed in range(min(rows, 2000)):
            pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
            sink = io.BytesIO()
            Image.fromarray(pixels).save(sink, "PNG")
            found.append(sink.getvalue())
    return [found[i % len(found)] for i in range(rows)]


def parquet_pool(folder: Path, encoded: list[bytes], group: int = 1000) -> str:
    folder.mkdir(parents=True)
    for start in range(0, len(encoded), 10_000):
        part = encoded[start : start + 10_000]
        table = pa.table({"id": [f"{start + i:09d}" for i in range(len(part))], "image": part})
        pq.write_table(table, folder / f"{start:09d}.parquet", row_group_size=group, compression="zstd")
    return str(folder)


def decoded(encoded: list[bytes], size: int) -> np.ndarray[Any, Any]:
    from pipeline.images.decode import Transform, decode_batch

    return decode_batch(encoded, Transform(size, None, "bilinear", 10**8)).pixels


def line(what: str, value: object, note: str = "") -> None:
    print(f"| {what} | {value} | {note} |", flush=True)


# ----------------------------------------------------------------------------------------------------- figures


def bench_parquet(lab: Lab, options: argparse.Namespace) -> None:
    encoded = images(options.data, options.rows, lab.size)
    pool = parquet_pool(lab.folder / "pool", encoded)
    pixels = decoded(encoded[: options.bare_rows], lab.size)
    cores = os.cpu_count() or 1
    with bracketed(lab, pixels, (cores, 1), (1, cores)) as rates:
        found = engine_run(lab, pool, lab.folder / "out")
    split, whole = rates
    note = f"{options.rows} images, steady {found['steady']:.0f}/s, whole stage {options.rows / found['whole_s']:.0f}/s"
    line(f"engine / bare loop, {cores} processes of one thread", f"{found['steady'] / split:.3f}", note)
    line(
        f"engine / bare loop, one process of {cores} threads",
        f"{found['steady'] / whole:.3f}",
        f"{whole:.0f}/s",
    )
    line("start to first batch, last batch to account", f"{found['first_s']:.1f} s, {found['last_s']:.1f} s")
    line("listing", f"{found['listing_s']:.1f} s")


def bench_s3(lab: Lab, options: argparse.Namespace) -> None:
    """PNG objects on the server that AWS_ENDPOINT_URL names, or on a server of moto."""
    from pipeline.config.sections import Storage
    from pipeline.store.opening import open_store

    encoded = images(options.data, options.rows, lab.size)
    with server() as endpoint:
        store: Any = open_store("s3://bench-pool/images", Storage(endpoint=endpoint))
        store.client.create_bucket(Bucket="bench-pool")
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda i: store.put(f"{i:09d}.png", encoded[i]), range(len(encoded))))
        cores = os.cpu_count() or 1
        pixels = decoded(encoded[: options.bare_rows], lab.size)
        with bracketed(lab, pixels, (cores, 1), (1, cores)) as rates:
            found = engine_run(
                lab, "s3://bench-pool/images", lab.folder / "out", storage={"endpoint": endpoint}
            )
    split, whole = rates
    note = f"{options.rows} objects, steady {found['steady']:.0f}/s; the server shares the cores"
    line(
        f"engine from PNG objects on S3 / bare loop, {cores} processes of one thread",
        f"{found['steady'] / split:.3f}",
        note,
    )
    line(
        f"engine from PNG objects on S3 / bare loop, one process of {cores} threads",
        f"{found['steady'] / whole:.3f}",
        f"{whole:.0f}/s",
    )
    line("listing", f"{found['listing_s']:.1f} s")


@contextmanager
def server() -> Iterator[str]:
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault(
        "AWS_SECRET_ACCESS_KEY", "canary-d41d8cd98f"
    )  # of tests/support/radosgw.sh; moto takes any
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    if named := os.environ.get("SISOM_S3_ENDPOINT"):
        yield named
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "19555"], stderr=subprocess.DEVNULL
    )
    time.sleep(5)
    yield "http://127.0.0.1:19555"
    process.kill()


def bench_scaling(lab: Lab, options: argparse.Namespace) -> None:
    pool = parquet_pool(lab.folder / "pool", images(options.data, options.rows, lab.size), 500)
    rates = {}
    for actors in (1, 2, 4):
        out = lab.folder / f"out{actors}"
        rates[actors] = engine_run(lab, pool, out, cpus=max(4, actors), resources={"actors": actors})[
            "steady"
        ]
        line(
            f"{actors} actors",
            f"{rates[actors]:.0f}/s",
            f"efficiency {rates[actors] / (actors * rates[1]):.3f}",
        )


def bench_memory(lab: Lab, options: argparse.Namespace) -> None:
    tiny = replace(lab, model="resnet10_w16", size=16, batch=256)
    few = images(None, 2000, 8)
    peaks = {}
    for rows in (options.rows // 10, options.rows):
        encoded = [few[i % len(few)] for i in range(rows)]
        pool = parquet_pool(lab.folder / f"pool{rows}", encoded, 5000)
        del encoded
        found = engine_run(tiny, pool, lab.folder / f"out{rows}", memory=True)
        peaks[rows] = found
        sizes = ", ".join(f"{name} {found[name] >> 20} MiB" for name in ("driver", "workers", "store"))
        line(f"{rows} images", sizes, f"{found['steady']:.0f}/s")
    least, most = peaks[options.rows // 10], peaks[options.rows]
    for name in ("driver", "workers", "store"):
        line(f"{name}, {options.rows} / {options.rows // 10}", f"{most[name] / max(least[name], 1):.3f}")


def bench_resume(lab: Lab, options: argparse.Namespace) -> None:
    pool = parquet_pool(lab.folder / "pool", images(options.data, options.rows, lab.size), 250)
    out = lab.folder / "out"
    engine_run(lab, pool, out, stop_at=0.5)
    first = int(out.with_suffix(".seen").read_text())
    second = engine_run(lab, pool, out)
    line(
        "images scored by the killed run, by the second, listed",
        f"{first}, {second['rows']}, {second['listed']}",
    )
    line("scored in both runs / listed", f"{(first + second['rows']) / second['listed']:.3f}")


def main() -> None:
    benches = {name.removeprefix("bench_"): f for name, f in globals().items() if name.startswith("bench_")}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=list(benches), help=", ".join(benches))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--bare-rows", type=int, default=4_000)
    parser.add_argument("--model", default="cifar_resnet18")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        plan = json.loads(options.child)
        folder, *rest = plan["lab"]
        lab = Lab(Path(folder), *rest)
        child(lab, plan["pool"], Path(plan["out"]), plan["options"], plan["cpus"], Path(plan["report"]))
        return
    print("| what | measured | note |\n|---|---|---|")
    for name in options.what:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab(Path(folder), options.model, 32, 64)
            lab.bank()
            benches[name](lab, options)


if __name__ == "__main__":
    main()
