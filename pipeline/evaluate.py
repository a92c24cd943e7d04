"""How good a round's classifier is: accuracy on the held-out test set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import torch

from pipeline.config import Config, Pool
from pipeline.decode import BadImage, decode
from pipeline.engine import Cluster
from pipeline.errors import LabelError, PoolError, nearest
from pipeline.pool_parquet import groups
from pipeline.stages import Network, normalise
from pipeline.storage import open_store
from pipeline.types import Listed


def test_accuracy(network: Network, config: Config, cluster: Cluster) -> dict[str, Any] | None:
    """Share of the held-out test images whose class is predicted, over all and by class; None without a test set.

    Raises:
        PoolError: a missing column. LabelError: a label outside the taxonomy.
    """
    if config.test_uri is None:
        return None
    source = Pool(uri=config.test_uri, id_column=config.pool.id_column, image_column=config.pool.image_column)
    found = list(groups(source, config.storage))
    run = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)(_predict)
    shared = ray.put(network)
    tables = ray.get([run.remote(item, source, config, shared, cluster.device) for item in found])
    truth = np.concatenate([truth for truth, _ in tables])
    predicted = np.concatenate([predicted for _, predicted in tables])
    if not len(truth):
        raise PoolError(f"test.uri: {config.test_uri} holds no readable image")
    right = truth == predicted
    per_class = {
        name: float(right[truth == i].mean()) for i, name in enumerate(config.taxonomy) if (truth == i).any()
    }
    return {"accuracy": float(right.mean()), "images": len(truth), "per_class": per_class}


def _predict(item: Listed, source: Pool, config: Config, network: Network, device: str) -> tuple[Any, Any]:
    torch.set_num_threads(config.resources.threads)
    with open_store(item.uri, config.storage).open("") as file:
        table = pq.ParquetFile(file).read_row_group(item.row_group)
    if config.test.label_column not in table.column_names:
        raise PoolError(
            f"test.label_column: {item.uri} has no column {config.test.label_column!r}; "
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
                f"test.uri: {item.uri} has label {label!r}, which is not in the taxonomy; "
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
