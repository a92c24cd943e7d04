"""Exact nearest neighbors against faiss's flat search: the KNN detector's and the bank's, in pairs of one run.

    python tests/benchmarks/bench_nearest.py --threads 2        seconds by the clock
    python tests/benchmarks/bench_nearest.py --cpu-time         processor time of one thread, for busy machines

Ours is the search by our own product. Rivals: `faiss + proof`, whose shortlist is measured and proved as ours is, so
that its results are equal to ours to the bit (`sisom/nearest/flat.py` says when it is taken), and `faiss` alone, which
rounds and proves nothing. Ratios are the rival's time over ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import faiss
import torch

from sisom.nearest import kth
from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries

CLOCK: list[Callable[[], float]] = [time.perf_counter]
CLASSES = 10
KNN = [  # points, queries, columns, k
    (1000, 1000, 512, 50), (5000, 256, 512, 50), (5000, 1000, 512, 1), (5000, 1000, 512, 50),
    (5000, 1000, 512, 200), (20_000, 500, 512, 50), (50_000, 256, 512, 50), (50_000, 1000, 512, 50),
    (50_000, 256, 64, 50), (20_000, 500, 128, 50), (50_000, 256, 256, 50), (20_000, 500, 2048, 50),
]  # fmt: skip
BANK = [(5000, 256, 512), (5000, 1000, 512), (20_000, 500, 512), (50_000, 500, 512), (50_000, 256, 64)]


def rows_of(count: int, columns: int, seed: int) -> torch.Tensor:
    """Non-negative rows of length one in ten loose clusters, as penultimate features are."""
    centers = torch.randn(CLASSES, columns, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(count, columns, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(torch.relu(centers[torch.arange(count) % CLASSES] + noise))


def medians(*sides: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each side; the sides take turns."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(rounds):
        for side, seen in zip(sides, times, strict=True):
            begin = CLOCK[0]()
            side()
            seen.append(CLOCK[0]() - begin)
    return [statistics.median(seen) for seen in times]


def bench_knn(points: int, queries: int, columns: int, k: int, rounds: int) -> None:
    """The distance to the k-th nearest of all points."""
    searched, asked = rows_of(points, columns, 1), rows_of(queries, columns, 2)
    laid_out, wanted = SortedPoints.of_one_class(searched), Queries.of_one_class(asked)
    index = faiss.IndexFlatL2(columns)
    index.add(searched.numpy())

    def by(faster: bool) -> torch.Tensor:
        kth.flat_is_faster = lambda queries, points: faster
        return kth.kth_distance(wanted, laid_out, k)

    assert by(True).equal(by(False))
    ours, checked, alone = medians(
        lambda: by(False),
        lambda: by(True),
        lambda: index.search(asked.numpy(), k),
        rounds=rounds,
    )
    report(f"KNN, {queries} in {points} x {columns}, k = {k}", ours, checked, alone)


def bench_bank(points: int, queries: int, columns: int, rounds: int) -> None:
    """The nearest point of the query's class, one of ten, and the nearest of all others."""
    labels = torch.arange(points) % CLASSES
    order = labels.argsort(stable=True)
    searched, labels = rows_of(points, columns, 1)[order], labels[order]
    asked, classes = rows_of(queries, columns, 2), torch.arange(queries) % CLASSES
    laid_out, wanted = SortedPoints.of(searched, labels), Queries(asked, classes)
    indexes = []
    for c in range(CLASSES):
        indexes.append([faiss.IndexFlatL2(columns), faiss.IndexFlatL2(columns)])
        indexes[-1][0].add(searched[labels == c].numpy())
        indexes[-1][1].add(searched[labels != c].numpy())

    def flat() -> None:
        for c, sides in enumerate(indexes):
            for index in sides:
                index.search(asked[classes == c].numpy(), 1)

    ours, alone = medians(lambda: neighbors(wanted, laid_out, inner=1, outer=1), flat, rounds=rounds)
    report(f"bank, {queries} in {points} x {columns}, {CLASSES} classes", ours, None, alone)


def report(what: str, ours: float, checked: float | None, alone: float) -> None:
    proof = "-" if checked is None else f"{checked:.3f} s, {checked / ours:.2f}"
    print(f"| {what} | {ours:.3f} s | {proof} | {alone:.3f} s, {alone / ours:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread")
    options = parser.parse_args()
    if options.cpu_time:
        options.threads, CLOCK[0] = 1, time.thread_time
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    print(
        f"{torch.backends.cpu.get_cpu_capability()}, {options.threads} threads, faiss {faiss.__version__}\n\n"
        "| search | ours | faiss + proof | faiss alone |\n|---|--:|--:|--:|"
    )
    for shape in KNN:
        bench_knn(*shape, rounds=options.rounds)
    for size in BANK:
        bench_bank(*size, rounds=options.rounds)


if __name__ == "__main__":
    main()
