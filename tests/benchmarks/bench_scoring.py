"""Scoring a pool through the engine against a bare loop of `extract + score` over pixels in memory.

    python tests/benchmarks/bench_scoring.py [--rows 20000] [--actors 2]

Both use the same number of single-thread processes, the same network (resnet10_w16 at 16 x 16) and the same bank.
Prints both rates, their ratio, what starting and ending cost, and peak resident memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import sisom
from pipeline import engine
from pipeline.config_file import load
from pipeline.decode import BadImage, decode
from pipeline.demo_data import ensure
from pipeline.pool import list_shards
from pipeline.progress import Counter, Voice
from pipeline.scoring import score_pool
from pipeline.stages import Extractor, Network
from pipeline.storage import LocalStore
from pipeline.workspace import Workspace
from sisom.models import build_model, save_weights

ROOT = Path(__file__).parents[2]


class Stopwatch(Voice):
    """Notes when images come out."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, int]] = []

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Counter]:
        marks = self.marks

        class Noting(Counter):
            def add(self, done: int, bad: int = 0) -> None:
                super().add(done, bad)
                marks.append((time.perf_counter(), self.done))

        yield Noting(self, what, total)


def bare(network: Network, bank: sisom.FeatureBank, pixels: np.ndarray, batch: int, barrier, seconds) -> None:
    """One process of the rival: pixels are decoded and in memory before the clock starts."""
    torch.set_num_threads(1)
    extract = Extractor(network, "cpu", batch)
    sisom.score(bank, extract(pixels[:batch]))
    barrier.wait()
    began = time.perf_counter()
    for start in range(0, len(pixels), batch):
        sisom.score(bank, extract(pixels[start : start + batch]))
    seconds.put(time.perf_counter() - began)


class PeakMemory(threading.Thread):
    """Peak resident memory of this process and, summed, of its descendants by kind."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver = self.workers = 0
        self.over = threading.Event()

    def run(self) -> None:
        me = psutil.Process(os.getpid())
        while not self.over.wait(0.25):
            self.driver = max(self.driver, me.memory_info().rss)
            total = 0
            for child in me.children(recursive=True):
                try:
                    if child.name().startswith("ray::"):
                        total += child.memory_full_info().uss
                except psutil.Error:
                    continue
            self.workers = max(self.workers, total)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--actors", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load(
            ROOT / "configs/quickstart.yaml",
            [
                f"pool.uri={folder}/digits/pool",
                f"resources.actors={options.actors}",
                "scoring.max_quarantined=1.0",
            ],
        )
        ensure(config)
        source = pq.read_table(folder / "digits/pool")
        images = source["image"].to_pylist()
        rows = [images[i % len(images)] for i in range(options.rows)]
        (folder / "pool").mkdir()
        table = pa.table({"id": [f"{i:08d}" for i in range(len(rows))], "image": rows})
        pq.write_table(table, folder / "pool/part.parquet", row_group_size=1000)
        config = config.model_copy(
            update={"pool": config.pool.model_copy(update={"uri": str(folder / "pool")})}
        )

        batch = config.scoring.batch_size
        good = []
        for image in images:
            try:
                good.append(decode(image, config.model.transform(config.scoring.max_pixels)))
            except BadImage:
                continue
        pixels = np.stack([good[i % len(good)] for i in range(options.rows)])
        net = build_model(config.model.name, len(config.taxonomy), seed=0)
        network = Network(config.model, len(config.taxonomy), np.frombuffer(save_weights(net), np.uint8))
        labeled = Extractor(network, "cpu", batch)(pixels[:400])
        labels = torch.arange(400) % len(config.taxonomy)
        bank = replace(sisom.fit_bank(labeled, labels, slopes=config.slope_defaults()), threshold=0.0)

        context = multiprocessing.get_context("spawn")
        barrier, seconds = context.Barrier(options.actors), context.Queue()
        parts = np.array_split(pixels, options.actors)
        rivals = [
            context.Process(target=bare, args=(network, bank, p, batch, barrier, seconds)) for p in parts
        ]
        for rival in rivals:
            rival.start()
        slowest = max(seconds.get() for _ in rivals)
        for rival in rivals:
            rival.join()
        bare_rate = options.rows / slowest

        cluster = replace(engine.start(config), max_actors=options.actors)
        shards = list(list_shards(config.pool, config.storage))
        voice = Stopwatch()
        memory = PeakMemory()
        memory.start()
        began = time.perf_counter()
        score_pool(
            Workspace(LocalStore(str(folder / "out"))), "", shards, network, bank, config, cluster, voice
        )
        whole = time.perf_counter() - began
        memory.over.set()
        # Steady state: from the moment a tenth is done until nine tenths are.
        early = next(mark for mark in voice.marks if mark[1] >= options.rows * 0.1)
        late = next(mark for mark in voice.marks if mark[1] >= options.rows * 0.9)
        steady = (late[1] - early[1]) / (late[0] - early[0])
        print(f"bare loop, {options.actors} processes     {bare_rate:8.0f} images/s")
        print(f"engine, steady state        {steady:8.0f} images/s   ratio {steady / bare_rate:.2f}")
        print(f"engine, the whole stage     {options.rows / whole:8.0f} images/s   ({whole:.1f} s)")
        print(f"start to first batch        {voice.marks[0][0] - began:8.1f} s")
        print(f"last batch to account       {began + whole - voice.marks[-1][0]:8.1f} s")
        print(
            f"peak memory                 {memory.driver >> 20:8d} MiB driver, {memory.workers >> 20} MiB workers"
        )


if __name__ == "__main__":
    main()
