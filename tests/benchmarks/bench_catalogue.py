"""Figures of the catalogue, as ratios against named rivals in the same run; nothing here asserts on time.

    python tests/benchmarks/bench_catalogue.py kcenter badge query knn [--rounds 3] [--small] [--cpu-time]

Sides take turns, and the medians are compared. Features are clustered synthetic float32. Wall time needs an idle
machine; `--cpu-time` takes the processor time of one thread, which a busy machine disturbs less.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import faiss
import numpy as np
import torch
from threadpoolctl import threadpool_limits

import sisom
from sisom import SELECTORS, Candidates, Features, Labeled
from sisom.detectors.neighbors import KnnDetector
from sisom.nearest.distances import neighbors
from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries

ROUNDS = [3]
SCALE = [1]
CLOCK: list[Callable[[], float]] = [time.perf_counter]


def clustered(n: int, width: int, *, seed: int, classes: int = 10) -> torch.Tensor:
    """Rows of `classes` clusters, not negative, as features after a ReLU are."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, width, generator=torch.Generator().manual_seed(0))
    which = torch.randint(classes, (n,), generator=generator)
    return (centers[which] + torch.randn(n, width, generator=generator)).relu()


def pool_of(h: torch.Tensor, classes: int, *, saliency: bool = False) -> Candidates:
    """Candidates whose logits are a fixed linear map of the features, with ids in order."""
    weight = torch.randn(classes, h.shape[1], generator=torch.Generator().manual_seed(1)) / h.shape[1] ** 0.5
    return Candidates([f"{i:08d}" for i in range(len(h))], features=features_of(h, weight, saliency))


def features_of(h: torch.Tensor, weight: torch.Tensor, saliency: bool) -> Features:
    """Features with the saliency of the pooled layer, or without any."""
    logits = h @ weight.T
    pull = torch.softmax(logits, dim=1) - 1 / len(weight)
    shown = h * (pull @ weight) if saliency else h[:, :0]
    return Features(shown, (("avgpool", h.shape[1]),) if saliency else (), h, logits)


def take_turns(sides: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and the last result of each side."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    for _ in range(ROUNDS[0]):
        for name, side in sides.items():
            begin = CLOCK[0]()
            results[name] = side()
            times[name].append(CLOCK[0]() - begin)
    return {name: statistics.median(seen) for name, seen in times.items()}, results


def report(what: str, seconds: dict[str, float], note: str = "") -> None:
    """A row of the table: everybody's seconds, and their ratio to ours, which comes first."""
    ours = next(iter(seconds.values()))
    sides = ", ".join(f"{name} {value:.2f} s ({value / ours:.1f}x)" for name, value in seconds.items())
    print(f"| {what} | {sides} | {note} |", flush=True)


def numpy_farthest_first(pool: np.ndarray, centers: np.ndarray, k: int) -> list[int]:
    """The plain loop: one product for the centers, then one matrix-vector product a pick."""
    norms = np.einsum("ij,ij->i", pool, pool)
    near = np.full(len(pool), np.inf, dtype=np.float32)
    squares = np.einsum("ij,ij->i", centers, centers)
    for start in range(0, len(pool), 4096):
        part = slice(start, start + 4096)
        squared = norms[part, None] + squares - 2 * (pool[part] @ centers.T)
        near[part] = squared.min(axis=1)
    chosen = []
    for _ in range(k):
        best = int(near.argmax())
        chosen.append(best)
        np.minimum(near, norms + norms[best] - 2 * (pool @ pool[best]), out=near)
        near[best] = -1
    return chosen


def bench_kcenter() -> None:
    """200 picks from 1,000 centers."""
    import lightly_mundig

    n, m, k = 50_000 // SCALE[0], 1_000, 200
    pool, centers = clustered(n, 512, seed=2), clustered(m, 512, seed=3)
    candidates = pool_of(pool, 10)
    labeled = Labeled(
        features_of(centers, torch.zeros(10, 512), False), torch.zeros(m, dtype=torch.int64), 10
    )
    everything = torch.cat([centers, pool]).numpy()

    def mundig() -> Sequence[int]:
        selection = lightly_mundig.Selection()
        selection.add_diversifying_strategy(
            embeddings=everything, strength=1.0, stopping_condition_minimum_distance=None
        )
        found = selection.run_selection(
            preselected_indices=list(range(m)), n_total_samples=m + n, n_samples_to_select=m + k
        )
        return [int(i) - m for i in found if i >= m]

    seconds, picks = take_turns(
        {
            "sisom": lambda: SELECTORS["coreset"]().select(candidates, labeled, k, seed=0).tolist(),
            "lightly-mundig": mundig,
            "NumPy loop": lambda: numpy_farthest_first(pool.numpy(), centers.numpy(), k),
        }
    )
    ours, notes = picks["sisom"], []
    for name, found in picks.items():
        order, common = sum(a == b for a, b in zip(found, ours, strict=True)), len(set(found) & set(ours))
        notes.append(
            f"{name} {order} equal in order, {common} in all, radius {radius(pool, centers, found):.4f}"
        )
    report(f"k-center, {n} x 512, {k} picks from {m} centers", seconds, "; ".join(notes))


def radius(pool: torch.Tensor, centers: torch.Tensor, chosen: Sequence[int]) -> float:
    """The distance from the worst covered row to its nearest center: what farthest-first makes small."""
    everything = torch.cat([centers, pool[list(chosen)]])
    near = neighbors(Queries.of_one_class(pool), SortedPoints.of_one_class(everything), inner=1, outer=0)
    return float(near.inner.max())


def numpy_badge(pull: np.ndarray, h: np.ndarray, k: int, seed: int) -> list[int]:
    """Factorised, serial: two matrix-vector products a pick, and a draw by the cumulated distances."""
    generator = np.random.default_rng(seed)
    norms = np.einsum("ij,ij->i", pull, pull) * np.einsum("ij,ij->i", h, h)
    chosen = [int(norms.argmax())]
    near = np.full(len(h), np.inf, dtype=np.float32)
    while True:
        last = chosen[-1]
        squared = norms + norms[last] - 2 * (pull @ pull[last]) * (h @ h[last])
        np.minimum(near, np.maximum(squared, 0), out=near)
        near[last] = 0
        if len(chosen) == k:
            return chosen
        cumulated = np.cumsum(near, dtype=np.float64)
        chosen.append(int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right")))


def spread(pull: np.ndarray, h: np.ndarray, chosen: Sequence[int]) -> float:
    """The mean squared distance of all rows to their nearest pick: what k-means++ makes small."""
    norms = np.einsum("ij,ij->i", pull, pull) * np.einsum("ij,ij->i", h, h)
    near = np.full(len(h), np.inf)
    for row in chosen:
        near = np.minimum(near, norms + norms[row] - 2 * (pull @ pull[row]) * (h @ h[row]))
    return float(near.mean())


def bench_badge() -> None:
    """200 picks among 100 classes."""
    n, classes, k = 100_000 // SCALE[0], 100, 200
    pool = pool_of(clustered(n, 512, seed=4, classes=classes), classes)
    nobody = Labeled(None, torch.empty(0, dtype=torch.int64), classes)
    found = pool.features
    assert found is not None
    h = found.penultimate.numpy()

    def factorised() -> list[int]:
        p = torch.softmax(found.logits, dim=1)
        pull = (p - torch.nn.functional.one_hot(p.argmax(1), classes)).numpy()
        return numpy_badge(pull, h, k, 0)

    seconds, picks = take_turns(
        {
            "sisom": lambda: SELECTORS["badge"]().select(pool, nobody, k, seed=0).tolist(),
            "factorised NumPy": factorised,
        }
    )
    p = torch.softmax(found.logits, dim=1)
    pull = (p - torch.nn.functional.one_hot(p.argmax(1), classes)).numpy()
    quality = {name: f"{spread(pull, h, chosen):.4f}" for name, chosen in picks.items()}
    report(
        f"BADGE, {n} x 512 x {classes} classes, {k} picks", seconds, f"mean squared distance left: {quality}"
    )
    command = [sys.executable, __file__, "badge-memory", *(["--small"] if SCALE[0] > 1 else [])]
    memory = int(subprocess.check_output(command, text=True))
    factors = 4 * n * (classes + 512)
    print(
        f"| its memory above the features | {memory / 1e6:.0f} MB | n (K + p) floats are {factors / 1e6:.0f} MB |"
    )


def badge_memory() -> None:
    """Print by how many bytes a query raises the peak; run in a process of its own."""
    n, classes = 100_000 // SCALE[0], 100
    pool = pool_of(clustered(n, 512, seed=4, classes=classes), classes)
    nobody = Labeled(None, torch.empty(0, dtype=torch.int64), classes)
    small = pool.select(range(600))
    SELECTORS["badge"]().select(small, nobody, 5, seed=0)
    # Fill up to the peak so far, which making the features has raised, before looking at what the query adds.
    before = _resident()
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ballast = np.ones(max(0, peak - before), dtype=np.uint8)
    before = max(peak, _resident())
    SELECTORS["badge"]().select(pool, nobody, 200, seed=0)
    print(max(0, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before), flush=True)
    del ballast


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def bench_query() -> None:
    """From features to 300 ids: the bank, the scores and the best of them, against the others' picks."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge, CoreSet

    n, m, classes, k = 20_000 // SCALE[0], 1_000, 10, 300
    weight = torch.randn(classes, 512, generator=torch.Generator().manual_seed(1)) / 512**0.5
    pool = pool_of(clustered(n, 512, seed=5), classes, saliency=True)
    known = features_of(clustered(m, 512, seed=6), weight, True)
    labeled = Labeled(known, known.logits.argmax(1), classes)
    found = pool.features
    assert found is not None

    class Fixed(SkactivemlClassifier):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(classes=list(range(classes)))

        def fit(self, X: object, y: object) -> object:
            return self

        def predict_proba(
            self, X: np.ndarray, with_embeddings: bool = False
        ) -> tuple[np.ndarray, np.ndarray]:
            return torch.softmax(found.logits, dim=1).numpy(), X

    def sisome() -> list[int]:
        bank = sisom.fit_bank(known, labeled.labels, slopes=1.0)
        scores = sisom.score(bank, found)
        return SELECTORS["sisome"]().select(Candidates(pool.ids, scores), labeled, k, seed=0).tolist()

    def their_badge() -> object:
        query = Badge(random_state=0, clf_embedding_flag_name="with_embeddings").query
        return query(found.penultimate.numpy(), np.full(n, np.nan), Fixed(), fit_clf=False, batch_size=k)

    def their_coreset() -> object:
        x = torch.cat([known.penultimate, found.penultimate]).numpy()
        return CoreSet(random_state=0).query(x, np.r_[np.zeros(m), np.full(n, np.nan)], batch_size=k)

    seconds, _ = take_turns(
        {
            "SISOMe": sisome,
            "our BADGE": lambda: SELECTORS["badge"]().select(pool, labeled, k, seed=0),
            "our CoreSet": lambda: SELECTORS["coreset"]().select(pool, labeled, k, seed=0),
            "scikit-activeml BADGE": their_badge,
            "scikit-activeml CoreSet": their_coreset,
        }
    )
    report(f"a query of {k} from {n} x 512, {m} labels, {classes} classes", seconds)


def bench_knn() -> None:
    """The 50th of 50,000 neighbors of 10,000 queries."""
    n, queries, k = 50_000 // SCALE[0], 10_000 // SCALE[0], 50
    weight = torch.zeros(10, 512)
    bank, rows = (
        features_of(clustered(size, 512, seed=seed), weight, False) for size, seed in ((n, 7), (queries, 8))
    )
    detector = KnnDetector(k)
    state = detector.fit(bank, torch.zeros(n, dtype=torch.int64))
    index = faiss.IndexFlatL2(512)
    index.add(state.points.numpy())

    def flat() -> torch.Tensor:
        unit = rows.penultimate / rows.penultimate.norm(dim=1, keepdim=True)
        return torch.from_numpy(index.search(unit.numpy(), k)[0][:, -1]).clamp(min=0).sqrt()

    seconds, found = take_turns({"sisom": lambda: detector.score(state, rows), "faiss flat": flat})
    apart = float((found["sisom"] - found["faiss flat"]).abs().max())
    report(f"KNN, {queries} queries, {n} x 512, k = {k}", seconds, f"largest difference {apart:.1e}")


BENCHES = {"kcenter": bench_kcenter, "badge": bench_badge, "query": bench_query, "knn": bench_knn}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHES, "badge-memory", []])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tenth of the size")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread")
    options = parser.parse_args()
    if options.cpu_time:
        os.environ["RAYON_NUM_THREADS"] = "1"  # lightly-mundig's
        torch.set_num_threads(1)
        threadpool_limits(1)
        faiss.omp_set_num_threads(1)
        CLOCK[0] = time.process_time
    ROUNDS[0], SCALE[0] = options.rounds, 10 if options.small else 1
    if options.names == ["badge-memory"]:
        badge_memory()
    else:
        clock = "processor time" if options.cpu_time else "wall time"
        print(
            f"{clock}, {torch.get_num_threads()} threads, torch {torch.__version__}, median of {options.rounds}"
        )
        print("| what | seconds (ratio to ours) | note |\n|---|---|---|")
        for name in options.names or BENCHES:
            BENCHES[name]()
