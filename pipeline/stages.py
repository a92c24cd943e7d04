"""What is done to a batch, as plain callables that know nothing of Ray.

`ReadShards` turns listed shards into batches of pixels, `Scorer` turns these into rows of scores. A batch travels
as one row of an Arrow table, so that no engine can cut or join it: the pixels that the model sees together depend
on the shard alone, and so do the scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

import sisom
from pipeline.feature_rows import pack
from pipeline.query_config import QueryPlan
from pipeline.sections import Model
from pipeline.types import EXTRAS, SCORED
from sisom.arrays import as_tensor
from sisom.distances import BUDGET_BYTES
from sisom.models import build_model, load_weights
from sisom.selectors import dropout_votes, ensemble_votes

NOTHING_ASKED = QueryPlan()


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
    """Embeds pixels in passes of one size: the last one is padded, so that no image sees how many came with it."""

    def __init__(
        self, network: Network, device: str, batch_size: int, layers: Sequence[str] | None = None
    ) -> None:
        # On a GPU too, the same image gives the same bits whatever came with it, to whoever looks at it.
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        self._model = network.model
        self._net = network.build(device)
        self._device = device
        self._layers = tuple(layers or network.model.layers)
        self._batch_size = batch_size
        # A processor is fastest where a pass stays in its cache, a GPU where it is full.
        self._tile = batch_size if device == "cuda" else min(32, batch_size)

    def __call__(self, pixels: NDArray[np.uint8]) -> sisom.Features:
        """Features of (n,3,s,s) uint8 pixels, n > 0, on the device."""
        return self._features(pixels, self._layers, lambda images: images)

    def moved(self, pixels: NDArray[np.uint8], detector: Any) -> sisom.Features:
        """Features of images after a detector that needs the model has moved them: of the last layer alone."""
        return self._features(pixels, self._layers[-1:], lambda images: detector.perturb(self._net, images))

    def _features(
        self,
        pixels: NDArray[np.uint8],
        layers: Sequence[str],
        prepare: Callable[[torch.Tensor], torch.Tensor],
    ) -> sisom.Features:
        parts = []
        for start in range(0, len(pixels), self._batch_size):
            part = as_tensor(pixels[start : start + self._batch_size]).to(self._device)
            images = prepare(normalise(part, self._model))
            parts.append(sisom.extract(self._net, images, layers, tile=self._tile))
        return sisom.Features.concat(parts)


class Scorer:
    """Turns `BATCH` rows into `SCORED` rows with one network and one bank."""

    def __init__(
        self,
        network: Network,
        bank: sisom.FeatureBank,
        taxonomy: Sequence[str],
        *,
        score: str,
        batch_size: int,
        device: str,
        threads: int,
        tiles: int = BUDGET_BYTES,
        detector: Any = None,
        members: Sequence[Network] = (),
        query: QueryPlan = NOTHING_ASKED,
        seed: int = 0,
    ) -> None:
        """What is computed of a batch.

        `score` names the bank's score that marks rows out of distribution, unless `detector` (fitted) does. `query`
        says what a strategy needs of rows while their features are at hand, `seed` is its, and `members` sit in its
        committee beside the network. `tiles` is how many bytes the distances of a batch may take at a time; no score
        depends on it.
        """
        torch.set_num_threads(threads)
        self._size = network.model.image_size
        self._bank = bank.to(device)
        self._extract = Extractor(network, device, batch_size, bank.layers)
        self._names = np.asarray(taxonomy, dtype=object)
        self._score = score
        self._tiles = tiles
        self._detector = detector
        self._ranking: Any = query.ranking
        self._others = [Extractor(one, device, batch_size, bank.layers[-1:]) for one in members]
        self._dropout = None
        if query.voters == "dropout":
            head, who = sisom.Head.of(network.build("cpu")), query.committee
            self._dropout = partial(dropout_votes, head, members=who.members, dropout=who.dropout, seed=seed)
        self._kept = query.keeps
        self._seed = seed

    def __call__(self, batches: pa.Table) -> pa.Table:
        """`BATCH` rows in, `SCORED` rows out."""
        tables = [self._scored(row) for row in _rows(batches)]
        return pa.concat_tables(tables) if tables else SCORED.empty_table()

    def _scored(self, batch: Mapping[str, Any]) -> pa.Table:
        bad, nothing = len(batch["bad_ids"]), [None] * len(batch["ids"])
        size = self._size
        pixels = np.frombuffer(batch["pixels"], np.uint8).reshape(len(batch["ids"]), 3, size, size)
        found = self.columns(pixels, batch["ids"])
        columns = {
            "row": [*batch["rows"], *batch["bad_rows"]],
            "id": [*batch["ids"], *batch["bad_ids"]],
            "uri": [*batch["uris"], *batch["bad_uris"]],
            "shard": [batch["shard"]] * (len(batch["ids"]) + bad),
            **{name: [*values, *[None] * bad] for name, values in found.items()},
            "stage": [*nothing, *batch["bad_stages"]],
            "reason": [*nothing, *batch["bad_reasons"]],
            "attempts": [*nothing, *batch["bad_attempts"]],
        }
        return pa.table({name: columns[name] for name in SCORED.names}, schema=SCORED)

    def columns(self, pixels: NDArray[np.uint8], ids: Sequence[str]) -> dict[str, list[Any]]:
        """What score files hold of (n,3,s,s) images, by column."""
        names = ("inner", "outer", "ratio", "energy", "sisom", "sisome")
        count = len(ids)
        if not count:
            return {name: [] for name in ("predicted", *names, "is_ood", *EXTRAS.names, "features")}
        features = self._extract(pixels)
        scores = sisom.score(self._bank, features, budget_bytes=self._tiles)
        strange = None if self._detector is None else self._detector.judge(self._extract, pixels, features)
        priority = None
        if self._ranking is not None:
            rows = sisom.Candidates(ids, scores, features, self._votes(pixels, features))
            priority = self._ranking.priority_of(rows, seed=self._seed)
        judged = getattr(scores, self._score) if strange is None else strange
        threshold = self._bank.threshold
        verdict = judged > (np.inf if threshold is None else threshold)
        return {
            "predicted": self._names[scores.predicted.cpu().numpy()].tolist(),
            **{name: getattr(scores, name).cpu().tolist() for name in names},
            "is_ood": verdict.cpu().tolist(),
            "strangeness": [None] * count if strange is None else strange.tolist(),
            "priority": [None] * count if priority is None else priority.cpu().tolist(),
            "features": [None] * count if self._kept is None else pack(features, deep=self._kept == "deep"),
        }

    def _votes(self, pixels: NDArray[np.uint8], features: sisom.Features) -> torch.Tensor | None:
        """(members, n, K) of the committee that the query's strategy asks; None without one."""
        if self._dropout is not None:
            return self._dropout(features.penultimate)
        if not self._others:
            return None
        return ensemble_votes([features.logits, *(other(pixels).logits for other in self._others)])


def _rows(batches: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a `BATCH` table; pixels stay a view of the Arrow buffer."""
    for i in range(batches.num_rows):
        row = {name: batches[name][i] for name in batches.column_names}
        yield {
            name: scalar.as_buffer() if name == "pixels" else scalar.as_py() for name, scalar in row.items()
        }
