"""Figures of the algorithm library, as ratios against a named rival in the same run; nothing here asserts on time.

    python tests/benchmarks/bench_sisom.py extract bf16 distances loop slopes memory subset
    python tests/benchmarks/bench_sisom.py subset --data DIR [--weights FILE]    DIR/cifar10, ...: Parquet of images

Each measurement alternates the two sides and reports the ratio of their medians. Use an idle machine.
"""

import argparse
import copy
import itertools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import sisom
from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.network.folding import folded

CLOCK: list[Callable[[], float]] = [time.perf_counter]
STAGES = ("layer1", "layer2", "layer3", "avgpool")


def medians(*sides: Callable[[], object], rounds: int = 5) -> list[float]:
    """Median seconds of each side; the sides take turns, so that a busy machine is unfair to none."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(rounds):
        for side, seen in zip(sides, times, strict=True):
            begin = CLOCK[0]()
            side()
            seen.append(CLOCK[0]() - begin)
    return [statistics.median(seen) for seen in times]


def row(what: str, value: float, reach: str, note: str = "") -> None:
    print(f"| {what} | {value:.3g} | {reach} | {note} |", flush=True)


def channels_last(model: torch.nn.Module) -> torch.nn.Module:
    """A frozen copy whose convolution weights lie as (n, H, W, C), which most devices prefer."""
    net = copy.deepcopy(model).eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last)


def bench_extract() -> None:
    """Extraction against plain forward passes over the same images in batches of the same size.

    The plain forward is the caller's: the given model in inference mode. The lean one is the fastest we know, a
    copy with its batch norms folded and channels last, images converted beforehand.
    """
    model = sisom.build_model("cifar_resnet18", 10, seed=0).eval()
    lean = channels_last(model)
    images, tile = torch.randn(128, 3, 32, 32), 64
    turned = images.contiguous(memory_format=torch.channels_last)

    def forward(net: torch.nn.Module, batch: torch.Tensor) -> None:
        with torch.inference_mode():
            for part in batch.split(tile):
                net(part)

    def lean_forward() -> None:
        with folded(lean, ()):
            forward(lean, turned)

    kinds = {"pooled feature only": STAGES[3:], "layer3 and pooled feature": STAGES[2:], "all four": STAGES}
    reach = {"pooled feature only": "<= 1.05", "layer3 and pooled feature": "<= 1.3", "all four": "<= 1.75"}
    calls = [lambda names=names: sisom.extract(model, images, names, tile=tile) for names in kinds.values()]
    base, leanest, prepared, *others = medians(
        lambda: forward(model, images),
        lean_forward,
        lambda: sisom.extract(lean, turned, STAGES, tile=tile),
        *calls,
    )
    note = f"forward {128 / base:.0f} images/s"
    for name, seconds in zip(kinds, others, strict=True):
        row(f"extract, {name} / plain forward", seconds / base, reach[name], note)
    note = f"forward {128 / leanest:.0f} images/s, folded and channels last"
    row("extract of a channels-last model, all four / its folded forward", prepared / leanest, "-", note)
    row("extract, all four, model / channels-last model", others[-1] / prepared, "-")


def bench_bf16() -> None:
    """Mixed against full precision, `extract + score`; ranks compared on the same images."""
    from scipy.stats import spearmanr

    model = channels_last(sisom.build_model("cifar_resnet18", 10, seed=0))
    images, layers = torch.randn(128, 3, 32, 32), ("layer3", "avgpool")
    images = images.contiguous(memory_format=torch.channels_last)
    fit = sisom.extract(model, images, layers)
    bank = sisom.fit_bank(fit, torch.arange(128) % 10, slopes={"layer3": 1e3, "avgpool": 1e2})

    def run(precision: str) -> sisom.Scores:
        return sisom.score(bank, sisom.extract(model, images, layers, precision=precision, tile=64))

    full, mixed = medians(lambda: run("float32"), lambda: run("bfloat16"))
    row(
        "bf16 / fp32 images per second",
        full / mixed,
        ">= 2.5 with AMX or AVX512-bf16",
        f"{128 / mixed:.0f} images/s",
    )
    ranks = spearmanr(run("float32").sisome.numpy(), run("bfloat16").sisome.numpy()).statistic
    row("bf16 against fp32, Spearman of sisome", float(ranks), ">= 0.999", "untrained net, noise images")


def world(n: int, m: int, d: int, classes: int, kind: str) -> tuple[torch.Tensor, torch.Tensor, SortedPoints]:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(m) * classes // m
    queries, points = torch.randn(n, d, generator=g), torch.randn(m, d, generator=g)
    wanted = torch.randint(0, classes, (n,), generator=g)
    if kind == "clustered":  # as a trained net's features: tight classes in few directions
        centers, directions = torch.randn(classes, d, generator=g), torch.randn(40, d, generator=g) / 20
        points = centers[labels] + torch.randn(m, 40, generator=g) @ directions + 0.02 * points
        queries = centers[wanted] + torch.randn(n, 40, generator=g) @ directions + 0.02 * queries
    return queries, wanted, SortedPoints.of(points, labels)


def bench_distances() -> None:
    """10,000 queries against a bank of 50,000 x 960: the matrix product alone, faiss, and torch.cdist."""
    for kind in ("gaussian", "clustered"):
        rows = 2000 if CLOCK[0] is time.process_time else 10_000
        queries, wanted, points = world(rows, 50_000, 960, 10, kind)
        compare_with_product(kind, queries, wanted, points)
        compare_with_rivals(kind, queries[: rows // 5], wanted[: rows // 5], points)


def compare_with_product(
    kind: str, queries: torch.Tensor, wanted: torch.Tensor, points: SortedPoints
) -> None:
    out = torch.empty(len(queries), len(points))
    base, one, five = medians(
        lambda: torch.mm(queries, points.points.T, out=out),
        lambda: neighbors(Queries(queries, wanted), points, inner=1, outer=1),
        lambda: neighbors(Queries(queries, wanted), points, inner=5, outer=5),
        rounds=3,
    )
    rate = f"{2 * len(queries) * len(points) * 960 / base / 1e9:.0f} GFLOP/s, {kind}"
    row("inner and outer, share of the product's rate, k = 1", base / one, ">= 0.8", rate)
    row("the same, k = 5", base / five, "-", rate)


def compare_with_rivals(kind: str, queries: torch.Tensor, wanted: torch.Tensor, points: SortedPoints) -> None:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    indexes = []
    for c in range(10):
        own = points.labels == c
        pair = [faiss.IndexFlatL2(960), faiss.IndexFlatL2(960)]
        pair[0].add(points.points[own].numpy())
        pair[1].add(points.points[~own].numpy())
        indexes.append(pair)

    def by_faiss() -> None:
        """Two searches a class, in indexes built beforehand: its own block, and all other points."""
        for c, pair in enumerate(indexes):
            asked = queries[wanted == c].numpy()
            for index in pair:
                index.search(asked, 1)

    def by_cdist() -> None:
        for rows, classes in zip(queries.split(256), wanted.split(256), strict=True):
            distance = torch.cdist(rows, points.points)
            same = points.labels == classes[:, None]
            distance.masked_fill(~same, torch.inf).amin(1)
            distance.masked_fill(same, torch.inf).amin(1)

    mine, flat, cdist = medians(
        lambda: neighbors(Queries(queries, wanted), points, inner=1, outer=1), by_faiss, by_cdist, rounds=3
    )
    row("the same against two faiss.IndexFlatL2 searches a class", flat / mine, ">= 2", kind)
    row("the same against torch.cdist blocks", cdist / mine, ">= 2", kind)
    found = neighbors(Queries(queries, wanted), points, inner=1, outer=1)
    exact = torch.cdist(
        queries[:200].double(), points.points.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    same = points.labels == wanted[:200, None]
    best = exact.masked_fill(~same, torch.inf).amin(1)
    worst = float(((found.inner[:200, 0] - best) / best).abs().max())
    row("largest relative error against float64", worst, "<= 1e-5", kind)


def bench_loop() -> None:
    """Against the authors' way: sample by sample, class by class, copying the class's bank, into Python lists."""
    queries, wanted, points = world(2048, 50_000, 960, 10, "gaussian")
    blocks = [points.points[points.labels == c] for c in range(10)]

    def loop() -> None:
        for query, c in zip(queries[:8], wanted[:8].tolist(), strict=True):
            distances = [torch.linalg.vector_norm(block.clone() - query, dim=1).tolist() for block in blocks]
            _ = min(distances[c]) / min(min(other) for k, other in enumerate(distances) if k != c)

    slow, fast = medians(
        loop, lambda: neighbors(Queries(queries, wanted), points, inner=1, outer=1), rounds=3
    )
    row("per-sample loop / ours, time per query", (slow / 8) / (fast / 2048), ">= 100", "50,000 x 960")


def bench_slopes() -> None:
    """An 81-point sweep against 81 calls of `fit_bank`, of which every ninth is timed."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(5000) % 10
    sizes, scales = (64, 128, 256, 512), (1e-4, 3e-4, 1e-3, 1e-2)
    parts = [
        (torch.randn(5000, d, generator=g) + torch.randn(10, d, generator=g)[labels]) * s
        for d, s in zip(sizes, scales, strict=True)
    ]
    dims = tuple(zip(STAGES, sizes, strict=True))
    features = sisom.Features(torch.cat(parts, 1), dims, parts[3], torch.randn(5000, 10, generator=g))
    grid = {
        "layer1": (1e3, 1e4, 1e5),
        "layer2": (1e2, 3e3, 1e5),
        "layer3": (10, 1e3, 1e4),
        "avgpool": (1, 100, 1e3),
    }
    every = [dict(zip(STAGES, c, strict=True)) for c in itertools.product(*grid.values())]

    def rebuilds() -> None:
        for slopes in every[::9]:
            sisom.fit_bank(features, labels, slopes=slopes)

    sweep, nine = medians(lambda: sisom.sweep_slopes(features, labels, grid), rebuilds, rounds=3)
    found = sisom.sweep_slopes(features, labels, grid)
    best = min(every, key=lambda slopes: sisom.average_ratio(features, labels, slopes))
    note = f"sweep {sweep:.2f} s; same argmin: {found.slopes == best}"
    row("81 rebuilds / sweep of 81 slopes, 5,000 x 960", 9 * nine / sweep, ">= 20", note)


def bench_memory() -> None:
    """Peak memory of a process that streams n queries through `score`."""
    code = (
        "import torch, sisom, resource\ntorch.set_num_threads(1)\n"
        "g = torch.Generator().manual_seed(0)\n"
        "def f(n):\n"
        "    x = torch.randn(n, 64, generator=g)\n"
        "    return sisom.Features(x, (('a', 64),), x[:, :4], x[:, :10])\n"
        "bank = sisom.fit_bank(f(2000), torch.arange(2000) % 10, slopes=1.0)\n"
        "for _ in range({}): sisom.score(bank, f(10_000))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    peaks = []
    for blocks in (10, 100):
        done = subprocess.run(
            [sys.executable, "-c", code.format(blocks)], capture_output=True, text=True, check=True
        )
        peaks.append(float(done.stdout))
    row("peak memory, 1,000,000 / 100,000 queries streamed", peaks[1] / peaks[0], "1", f"{peaks[1]:.0f} MiB")


def bench_subset(data: Path | None, weights: Path | None) -> None:
    """A 5 % bank against the full one: query time, and AUROC on three pairs when data is given."""
    queries, _, points = world(2048, 50_000, 960, 10, "clustered")
    dims = (("a", 960),)
    features = sisom.Features(points.points, dims, points.points[:, :16], torch.randn(50_000, 10))
    full = sisom.fit_bank(features.select(slice(0, 50_000, 50)), points.labels[::50], slopes=1.0, r_avg=0.5)
    full = replace(
        full,
        points=torch.tanh(points.points / 2) / 2,
        labels=points.labels,
        source=torch.arange(50_000),
        energies=torch.zeros(50_000),
    )
    keep = torch.arange(0, 50_000, 20)
    small = replace(
        full, points=full.points[keep], labels=full.labels[keep], source=keep, energies=full.energies[keep]
    )
    pool = sisom.Features(queries, dims, queries[:, :16], torch.randn(2048, 10))
    slow, fast = medians(lambda: sisom.score(full, pool), lambda: sisom.score(small, pool))
    row("query time, 5 % / full bank of 50,000 x 960", fast / slow, "<= 0.28", "features given")
    if data is None:
        return
    from subset_auroc import changes

    for what, change, note in changes(data, weights):
        row(f"AUROC change, {what}", change, ">= -0.001", note)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    benches = ("extract", "bf16", "distances", "loop", "slopes", "memory", "subset")
    parser.add_argument("what", nargs="*", choices=[*benches, []])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--weights", type=Path, default=None, help="of cifar_net.py; trained if left out")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, by its processor time: for a busy machine"
    )
    options = parser.parse_args()
    if options.cpu_time:
        CLOCK[0], options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    clock = "processor time" if options.cpu_time else "wall time"
    print(
        f"{options.threads} threads, {clock}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    )
    print("| what | measured | reach | note |\n|---|---|---|---|")
    for name in options.what or benches:
        if name == "subset":
            bench_subset(options.data, options.weights)
        else:
            globals()[f"bench_{name}"]()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
