"""What is done to a batch, as plain callables that know nothing of Ray.

`ReadShards` turns listed shards into batches of pixels, `Scorer` turns these into rows of scores. A batch travels
as one row of an Arrow table, so that no engine can cut or join it: the pixels that the model sees together depend
on the shard alone, and so do the scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

import sisom
from pipeline.config import Model
from pipeline.types import SCORES
from sisom.models import build_model, load_weights

# One row an image: scored where `reason` is null, quarantined otherwise. `row` is its place in the shard.
SCORED = pa.schema([("row", pa.int32()), *SCORES, ("stage", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Network:
    """A trained classifier as values: what a worker needs to rebuild it."""

    model: Model
    num_classes: int
    weights: NDArray[np.uint8]  # safetensors bytes; an array, so that Ray shares it without a copy

    def build(self, device: str) -> torch.nn.Module:
        """The network in eval mode on `device`, its parameters frozen."""
        net = build_model(self.model.name, self.num_classes, seed=0)
        load_weights(net, self.weights.tobytes())
        return net.eval().requires_grad_(False).to(device)


def normalise(pixels: torch.Tensor, model: Model) -> torch.Tensor:
    """(n,3,s,s) uint8 to float32 by the model's mean and std, on the device of the pixels."""
    mean = torch.tensor(model.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(model.std, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255.0 - mean) / std


class Extractor:
    """Embeds pixels in batches of one shape: the last one is padded, so that no image sees another's size."""

    def __init__(self, network: Network, device: str, batch_size: int) -> None:
        self._model = network.model
        self._net = network.build(device)
        self._device = device
        self._batch_size = batch_size

    def __call__(self, pixels: NDArray[np.uint8]) -> sisom.Features:
        """Features of (n,3,s,s) uint8 pixels, on the CPU; n may be anything, zero too."""
        parts = []
        for start in range(0, max(len(pixels), 1), self._batch_size):
            part = pixels[start : start + self._batch_size]
            padded = np.zeros((self._batch_size, *pixels.shape[1:]), np.uint8)
            padded[: len(part)] = part
            images = normalise(torch.from_numpy(padded).to(self._device), self._model)
            features = sisom.extract(self._net, images, self._model.layers)
            parts.append(features.select(torch.arange(len(part))))
        return sisom.Features.concat(parts)


class Scorer:
    """Turns `BATCH` rows into `SCORED` rows with one network and one bank."""

    def __init__(
        self,
        network: Network,
        bank: Mapping[str, NDArray[Any]],
        taxonomy: Sequence[str],
        *,
        score: str,
        batch_size: int,
        device: str,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        self._size = network.model.image_size
        self._extract = Extractor(network, device, batch_size)
        self._bank = sisom.FeatureBank.from_arrays(bank)
        self._names = np.asarray(taxonomy, dtype=object)
        self._score = score

    def __call__(self, batches: pa.Table) -> pa.Table:
        """`BATCH` rows in, `SCORED` rows out."""
        tables = [self._scored(row) for row in _rows(batches)]
        return pa.concat_tables(tables) if tables else SCORED.empty_table()

    def _scored(self, batch: Mapping[str, Any]) -> pa.Table:
        ids, rows = batch["ids"], batch["rows"]
        pixels = np.frombuffer(batch["pixels"], np.uint8).reshape(len(ids), 3, self._size, self._size)
        scores = sisom.score(self._bank, self._extract(pixels))
        threshold = self._bank.threshold
        verdict = getattr(scores, self._score) > (np.inf if threshold is None else threshold)
        bad = len(batch["bad_ids"])
        nothing = [None] * bad

        def values(name: str) -> list[Any]:
            return [*getattr(scores, name).cpu().tolist(), *nothing]

        columns = {
            "row": [*rows, *batch["bad_rows"]],
            "id": [*ids, *batch["bad_ids"]],
            "uri": [batch["uri"]] * (len(ids) + bad),
            "shard": [batch["shard"]] * (len(ids) + bad),
            "predicted": [*self._names[scores.predicted.cpu().numpy()], *nothing],
            **{name: values(name) for name in ("inner", "outer", "ratio", "energy", "sisom", "sisome")},
            "is_ood": [*verdict.cpu().tolist(), *nothing],
            "stage": [*[None] * len(ids), *["decode"] * bad],
            "reason": [*[None] * len(ids), *batch["bad_reasons"]],
        }
        return pa.table(columns, schema=SCORED)


def _rows(batches: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a `BATCH` table; pixels stay a view of the Arrow buffer."""
    for i in range(batches.num_rows):
        row = {name: batches[name][i] for name in batches.column_names}
        yield {
            name: scalar.as_buffer() if name == "pixels" else scalar.as_py() for name, scalar in row.items()
        }
