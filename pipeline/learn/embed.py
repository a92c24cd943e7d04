"""Features of the labeled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

import sisom
from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.learn.rows import LabeledSet, Pixels, _columns
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network


@dataclass(frozen=True)
class Embedded:
    """Features of the labeled rows, ordered by id.

    The driver holds them; the label budget bounds their size.
    """

    ids: tuple[str, ...]
    targets: torch.Tensor  # (n,) int64
    held_out: torch.Tensor  # (n,) bool
    features: sisom.Features


@working("embedding the labeled images")
def embed(
    labeled: LabeledSet, network: Network, config: Config, *, cluster: Cluster, moved_by: Any = None
) -> Embedded:
    """Extract the features of the labeled rows on workers.

    The order of the ids alone fixes the batches.

    Args:
        labeled: the decoded rows.
        network: reads the features.
        config: with `scoring.batch_size`.
        cluster: where the workers run.
        moved_by: a detector that changes images first; the features are then of the changed images.
    """
    size = config.scoring.batch_size
    shared = ray.put(network)
    remote: Any = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)
    run = remote(_embed)
    starts = range(0, max(labeled.rows, 1), size)
    groups = [list(starts[i :: cluster.max_actors]) for i in range(min(cluster.max_actors, len(starts)))]
    parts: dict[int, sisom.Features] = {}
    pending = [
        run.remote(labeled.blocks, shared, config, starts=group, device=cluster.device, moved_by=moved_by)
        for group in groups
    ]
    for found in ray.get(pending):
        for start, arrays, dims in found:
            parts[start] = sisom.Features.from_arrays(arrays, dims)
    meta = ray.get(ray.remote(num_cpus=0.25)(_meta).remote(labeled.blocks))
    ids, targets, held = meta
    return Embedded(
        ids,
        torch.from_numpy(targets),
        torch.from_numpy(held),
        sisom.Features.concat([parts[s] for s in starts]),
    )


def _meta(blocks: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.bool_]]:
    ids, targets, held = _columns(ray.get(list(blocks)))
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    return tuple(ids[i] for i in order), targets[order], held[order]


def _embed(
    blocks: Sequence[Any],
    network: Network,
    config: Config,
    *,
    starts: Sequence[int],
    device: str,
    moved_by: Any,
) -> list[tuple[int, Mapping[str, NDArray[Any]], tuple[tuple[str, int], ...]]]:
    torch.set_num_threads(config.resources.threads)
    size = config.scoring.batch_size
    pixels = Pixels.of(ray.get(list(blocks)), network.model.image_size)
    extract = Extractor(network, device, size)
    found: list[tuple[int, Mapping[str, NDArray[Any]], tuple[tuple[str, int], ...]]] = []
    for start in starts:
        rows = np.arange(start, min(start + size, len(pixels)))
        images = pixels.take(rows).numpy()
        features = (extract(images) if moved_by is None else extract.moved(images, moved_by)).to("cpu")
        found.append((start, features.to_arrays(), features.layer_dims))
    return found
