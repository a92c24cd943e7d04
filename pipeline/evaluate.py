"""How good a round is: accuracy on the held-out test set, and known against unknown where truth exists.

Truth is read here and by the simulated oracle, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

import sisom.metrics
from pipeline.config import Config, Pool
from pipeline.decode import BadImage, decode
from pipeline.engine import Cluster
from pipeline.errors import LabelError, PoolError, nearest
from pipeline.oracle import Truth
from pipeline.pool import list_shards
from pipeline.stages import Network, normalise
from pipeline.storage import open_store
from pipeline.types import Shard

BINS = 40


def test_accuracy(network: Network, config: Config, cluster: Cluster) -> dict[str, Any] | None:
    """Share of the held-out test images whose class is predicted, over all and by class; None without a test set.

    Raises:
        PoolError: a missing column. LabelError: a label outside the taxonomy.
    """
    if config.test_uri is None:
        return None
    source = Pool(uri=config.test_uri, id_column=config.pool.id_column, image_column=config.pool.image_column)
    shards = list(list_shards(source, config.storage))
    run = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)(_predict)
    shared = ray.put(network)
    tables = ray.get([run.remote(shard, source, config, shared, cluster.device) for shard in shards])
    truth = np.concatenate([truth for truth, _ in tables])
    predicted = np.concatenate([predicted for _, predicted in tables])
    if not len(truth):
        raise PoolError(f"test.uri: {config.test_uri} holds no readable image")
    right = truth == predicted
    per_class = {
        name: float(right[truth == i].mean()) for i, name in enumerate(config.taxonomy) if (truth == i).any()
    }
    return {"accuracy": float(right.mean()), "images": len(truth), "per_class": per_class}


def _predict(shard: Shard, source: Pool, config: Config, network: Network, device: str) -> tuple[Any, Any]:
    torch.set_num_threads(config.resources.threads)
    with open_store(shard.uri, config.storage).open("") as file:
        table = pq.ParquetFile(file).read_row_group(shard.row_group)
    if config.test.label_column not in table.column_names:
        raise PoolError(
            f"test.label_column: {shard.uri} has no column {config.test.label_column!r}; "
            f"{nearest(config.test.label_column, table.column_names)}"
        )
    numbers = {name: i for i, name in enumerate(config.taxonomy)}
    transform = config.model.transform(config.scoring.max_pixels)
    pixels, truth = [], []
    for data, label in zip(
        table[source.image_column].to_pylist(), table[config.test.label_column].to_pylist(), strict=True
    ):
        if str(label) not in numbers:
            raise LabelError(
                f"test.uri: {shard.uri} has label {label!r}, which is not in the taxonomy; "
                f"{nearest(str(label), config.taxonomy)}"
            )
        try:
            pixels.append(decode(data, transform))
            truth.append(numbers[str(label)])
        except BadImage:
            continue
    predicted: list[int] = []
    net = network.build(device)
    size = config.scoring.batch_size
    with torch.inference_mode():
        for start in range(0, len(pixels), size):
            batch = torch.from_numpy(np.stack(pixels[start : start + size])).to(device)
            predicted += net(normalise(batch, network.model)).argmax(1).cpu().tolist()
    return np.asarray(truth, np.int64), np.asarray(predicted, np.int64)


@dataclass(frozen=True)
class PoolView:
    """What one pass over the score files tells evaluation and the report."""

    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]
    ood_auroc: float | None
    ood_fpr95: float | None
    is_ood: int


def view_scores(
    tables: Sequence[pa.Table] | Iterable[pa.Table], score: str, truth: Truth | None, labeled: frozenset[str]
) -> PoolView:
    """Histogram of a score, and known against unknown (higher = stranger; unknown and far are positive).

    Labeled rows are left out: they are in the bank themselves. Memory: one float32 and one byte a row.
    """
    values: list[np.ndarray[Any, Any]] = []
    kinds: list[np.ndarray[Any, Any]] = []
    marked = 0
    names = ("pool", "known", "unknown", "far")
    for table in tables:
        ids = table["id"].to_pylist()
        fresh = np.asarray([name not in labeled for name in ids], np.bool_)
        column = table[score].to_numpy()
        kind = [0 if truth is None else names.index(truth.kinds.get(name, "pool")) for name in ids]
        values.append(column[fresh])
        kinds.append(np.asarray(kind, np.int8)[fresh])
        marked += sum(table["is_ood"].to_pylist())
    found = np.concatenate(values) if values else np.empty(0, np.float32)
    kind_of = np.concatenate(kinds) if kinds else np.empty(0, np.int8)
    low, high = np.quantile(found, [0.001, 0.999]) if len(found) else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    counts = {
        name: tuple(np.histogram(np.clip(found[kind_of == i], edges[0], edges[-1]), edges)[0].tolist())
        for i, name in enumerate(names)
        if (kind_of == i).any()
    }
    known, unknown = torch.from_numpy(found[kind_of == 1]), torch.from_numpy(found[kind_of >= 2])
    both = len(known) > 0 and len(unknown) > 0
    return PoolView(
        tuple(edges.tolist()),
        counts,
        sisom.metrics.auroc(known, unknown) if both else None,
        sisom.metrics.fpr_at_tpr(known, unknown) if both else None,
        marked,
    )
