"""Scoring of pixel batches; knows nothing of Ray.

A batch travels as one row of an Arrow table, so that no engine can cut or join it: the pixels that the model sees
together depend on the shard alone, and so do the scores, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

import sisom
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.model.detector import FittedDetector
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.score.feature_rows import pack
from pipeline.types import EXTRAS, SCORED
from sisom.nearest.distances import BUDGET_BYTES
from sisom.selectors.committee import dropout_votes, ensemble_votes


@dataclass(frozen=True)
class ScoringOptions:
    """Options of scoring, the same for every scorer of a round.

    Args:
        taxonomy: class names, in head order.
        score: the bank's score that marks rows out of distribution, unless a detector does.
        batch_size: images that the network sees together.
        device: of the network and the bank.
        threads: of this process.
        tiles: bytes that the distances of a batch may take at a time; no score depends on it.
        query: what its strategy needs of rows while their features are at hand.
        seed: of the strategy.
    """

    taxonomy: tuple[str, ...]
    score: str
    batch_size: int
    device: str
    threads: int
    tiles: int = BUDGET_BYTES
    query: QueryPlan = field(default_factory=QueryPlan)
    seed: int = 0

    @classmethod
    def of(cls, config: Config, device: str, *, seed: int, tiles: int = BUDGET_BYTES) -> ScoringOptions:
        """Return the options of a config, for scoring on `device`."""
        scoring, threads = config.scoring, config.resources.threads
        return cls(
            config.taxonomy,
            scoring.score,
            scoring.batch_size,
            device,
            threads,
            tiles=tiles,
            query=config.query,
            seed=seed,
        )


class Scorer:
    """Turn `BATCH` rows into `SCORED` rows, with one network and bank."""

    def __init__(
        self,
        network: Network,
        bank: sisom.FeatureBank,
        options: ScoringOptions,
        *,
        detector: FittedDetector | None = None,
        members: Sequence[Network] = (),
    ) -> None:
        """Load the network and the bank.

        Args:
            network: the trained classifier.
            bank: fitted on its features.
            options: how rows are scored.
            detector: marks rows out of distribution in the bank's place.
            members: sit in the committee of the query's strategy, beside the network.
        """
        device, size, query = options.device, options.batch_size, options.query
        torch.set_num_threads(options.threads)
        self._size = network.model.image_size
        self._bank = bank.to(device)
        self._extract = Extractor(network, device, size, layers=bank.layers)
        self._names = np.asarray(options.taxonomy, dtype=object)
        self._score = options.score
        self._tiles = options.tiles
        self._detector = detector
        self._ranking: Any = query.ranking
        self._others = [Extractor(one, device, size, layers=bank.layers[-1:]) for one in members]
        self._dropout = None
        if query.voters == "dropout":
            head, who = sisom.Head.of(network.build("cpu")), query.committee
            self._dropout = partial(
                dropout_votes, head, members=who.members, dropout=who.dropout, seed=options.seed
            )
        self._kept = query.keeps
        self._seed = options.seed

    def __call__(self, batches: pa.Table) -> pa.Table:
        """Return the `SCORED` rows of `BATCH` rows."""
        tables = [self._scored(row) for row in _rows(batches)]
        return pa.concat_tables(tables) if tables else SCORED.empty_table()

    def _scored(self, batch: Mapping[str, Any]) -> pa.Table:
        bad, nothing = len(batch["bad_ids"]), [None] * len(batch["ids"])
        size = self._size
        pixels = np.frombuffer(batch["pixels"], np.uint8).reshape(len(batch["ids"]), 3, size, size)
        scores = self.columns(pixels, batch["ids"])
        columns = {
            "row": [*batch["rows"], *batch["bad_rows"]],
            "id": [*batch["ids"], *batch["bad_ids"]],
            "uri": [*batch["uris"], *batch["bad_uris"]],
            "shard": [batch["shard"]] * (len(batch["ids"]) + bad),
            **{name: [*values, *[None] * bad] for name, values in scores.items()},
            "metadata": [*batch["facts"], *batch["bad_facts"]],
            "stage": [*nothing, *batch["bad_stages"]],
            "reason": [*nothing, *batch["bad_reasons"]],
            "attempts": [*nothing, *batch["bad_attempts"]],
        }
        return pa.table({name: columns[name] for name in SCORED.names}, schema=SCORED)

    def columns(self, pixels: NDArray[np.uint8], ids: Sequence[str]) -> dict[str, list[Any]]:
        """Return what score files hold of (n,3,s,s) images, by column."""
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
        """Return the (members, n, K) votes of the strategy's committee.

        None if the strategy asks no committee.
        """
        if self._dropout is not None:
            return self._dropout(features.penultimate)
        if not self._others:
            return None
        return ensemble_votes([features.logits, *(other(pixels).logits for other in self._others)])


def _rows(batches: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a `BATCH` table.

    Pixels stay a view of the Arrow buffer.
    """
    for i in range(batches.num_rows):
        row = {name: batches[name][i] for name in batches.column_names}
        yield {
            name: scalar.as_buffer() if name == "pixels" else scalar.as_py() for name, scalar in row.items()
        }
