"""The memory of decisions: why an image was asked about or not, and whether its scores come out again.

Works from the artefacts of a committed round alone, on this machine, without Ray.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

import sisom
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.labels import read_labels
from pipeline.lookup import pixels_of
from pipeline.outcome import stored_bank, stored_network
from pipeline.planned import of_round
from pipeline.selection import COLUMNS, SCORE_NAMES, kinds, priorities, settled
from pipeline.snapshot import Snapshot
from pipeline.stages import Extractor, Network, Scorer
from pipeline.strangeness import stored_detector
from pipeline.workspace import Workspace, open_workspace, round_key
from sisom.distances import neighbors
from sisom.enhance import enhance

NEAREST = 3  # bank points shown on each side


@dataclass(frozen=True)
class _Round:
    """A committed round, read as needed."""

    workspace: Workspace
    config: Config
    index: int

    @classmethod
    def open(cls, config: Config, index: int | None) -> _Round:
        workspace = open_workspace(config)
        workspace.check(config)
        chosen = workspace.committed_round(index)
        return cls(workspace, of_round(workspace, config, chosen), chosen)

    def key(self, name: str) -> str:
        return round_key(self.index, name)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.workspace.read_json(self.key("plan.json"))
        return found

    @cached_property
    def bank(self) -> sisom.FeatureBank:
        return stored_bank(self.workspace, self.index)

    @cached_property
    def network(self) -> Network:
        return stored_network(self.workspace, self.index, self.config)

    @cached_property
    def extract(self) -> Extractor:
        torch.set_num_threads(self.config.resources.threads)
        return Extractor(self.network, "cpu", self.config.scoring.batch_size, self.bank.layers)

    @cached_property
    def scorer(self) -> Scorer:
        config = self.config
        members = range(1, config.query.networks)
        return Scorer(
            self.network,
            self.bank,
            config.taxonomy,
            score=config.scoring.score,
            batch_size=config.scoring.batch_size,
            device="cpu",
            threads=config.resources.threads,
            detector=stored_detector(self.workspace, self.index, self.network, config),
            members=[stored_network(self.workspace, self.index, config, member) for member in members],
            query=config.query,
            seed=self.plan["seed"],
        )

    def rows(self, folder: str, name: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of an id in the score files or in quarantine."""
        for part in self.parts(folder, columns):
            yield from part.filter(pc.equal(part["id"], name)).to_pylist()

    def parts(self, folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for key in self.workspace.keys(self.key(folder)):
            yield from self.workspace.row_groups(key, None if columns is None else list(columns))

    def pixels(self, wanted: Mapping[int, Sequence[str]]) -> Iterator[tuple[str, Any]]:
        """(id, pixels or the reason why there are none) of ids in shards."""
        return pixels_of(Snapshot.read(self.workspace, self.key("")), wanted, self.config)


# ------------------------------------------------------------------------------------------------------ explain


def explain(config: Config, name: str, index: int | None = None) -> dict[str, Any]:
    """All that a committed round knows of a pool id.

    Args:
        config: of the project.
        name: the id.
        index: the round; the last one by default.

    Returns:
        The id's scores and rank, why it was asked about or not, the nearest bank points inside and outside its
        predicted class with their labels, and the digests of model and bank.

    Raises:
        UserError: no such round, or an id that its pool does not have.
    """
    round_ = _Round.open(config, index)
    told: dict[str, Any] = {"id": name, "round": round_.index}
    scored = next(round_.rows("scores/", name), None)
    if scored is None:
        broken = next(round_.rows("quarantine/", name), None)
        if broken is None:
            raise UserError(f"round {round_.index:03d} has no id {name!r} in its pool {config.pool.uri}")
        return told | {"quarantined": broken, "asked": False, "why": "it is in quarantine"}
    told |= {"scores": scored, "threshold": round_.bank.threshold}
    told |= _standing(round_, scored)
    told |= _nearest(round_, scored)
    for digest, key in (("model", "model/model.safetensors"), ("bank", "bank.safetensors")):
        told[f"{digest}_digest"] = round_.workspace.digest(round_.key(key))
    return told


def _standing(round_: _Round, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Why it was asked about or not, and how many of its kind were wanted more."""
    plan, seed = round_.config.query, round_.plan["seed"]
    asked = round_.workspace.read_table(round_.key("query.parquet")).to_pylist()
    answers = read_labels(round_.workspace, round_.plan["labels"], round_.config.taxonomy)
    answered = pa.array(sorted(settled(round_.workspace, round_.index, answers)), pa.string())
    far_from = round_.workspace.read_json(round_.key("triage.json"))["far_from"]
    columns = [*COLUMNS, *round_.config.extra_columns]
    one = pa.Table.from_pylist([dict(scored)]).select(columns)
    kind = kinds(one, far_from)[0].as_py()
    mine = float(priorities(one, plan.strategy, seed)[0])
    before = 0
    together = plan.together and kind == "informative"
    for part in [] if together else round_.parts("scores/", columns):
        alike = pc.equal(kinds(part, far_from), kind)
        rows = part.filter(pc.and_(alike, _not_in(part["id"], answered)))
        wanted = priorities(rows, plan.strategy, seed)
        earlier = np.asarray([other < scored["id"] for other in rows["id"].to_pylist()], np.bool_)
        before += int(((wanted > mine) | ((wanted == mine) & earlier)).sum())
    found = {"priority": mine, "rank": before, "kind": kind, "far_from": far_from}
    if together:  # nobody ranks such rows one by one
        found |= {"priority": None, "rank": None}
    for row in asked:
        if row["id"] == scored["id"]:
            return found | {"asked": True, "why": f"rank {row['rank']} of the query: {row['reason']}"}
    if scored["id"] in answers.answered():
        return found | {"asked": False, "why": "it had an answer already"}
    if pc.is_in(pa.scalar(scored["id"]), value_set=answered).as_py():
        return found | {
            "asked": False,
            "why": "an earlier round had asked about it, and its answer was awaited",
        }
    why = f"{before} {kind} images were wanted more, too many for the query"
    if together:
        why = f"{plan.strategy} looks at the pool's images together, and has picked others"
    if kind == "novel":
        why = f"{before} novel images were wanted more, and of those that look alike only the first are asked about"
    return found | {"asked": False, "why": why}


def _not_in(ids: pa.ChunkedArray, answered: pa.Array) -> Any:
    return pc.invert(pc.is_in(ids, value_set=answered))


def _nearest(round_: _Round, scored: Mapping[str, Any]) -> dict[str, Any]:
    """The bank points that made its distances."""
    ((_, pixels),) = round_.pixels({scored["shard"]: [scored["id"]]})
    if isinstance(pixels, str):
        return {"image": f"cannot be looked at any more: {pixels}"}
    bank = round_.bank
    features = round_.extract(pixels[None])
    again = sisom.score(bank, features)
    query = enhance(features.saliency, features.layer_dims, bank.slopes)
    found = neighbors(query, again.predicted, bank.gallery, inner=NEAREST, outer=NEAREST)
    ids, taxonomy = _fitted(round_), round_.config.taxonomy

    def points(distances: torch.Tensor, places: torch.Tensor) -> list[dict[str, Any]]:
        return [
            {
                "id": ids[int(bank.source[place])],
                "label": taxonomy[int(bank.labels[place])],
                "distance": float(d),
            }
            for d, place in zip(distances[0], places[0], strict=True)
            if place >= 0
        ]

    return {
        "inside": points(found.inner, found.inner_index),
        "outside": points(found.outer, found.outer_index),
        "same_scores": all(getattr(again, n)[0].item() == scored[n] for n in SCORE_NAMES),
    }


def _fitted(round_: _Round) -> list[str]:
    """The ids of the rows that the bank was fitted on, in its order."""
    ids = round_.workspace.read_table(round_.key("labeled.parquet"), ["id"])["id"].to_pylist()
    unreadable = {
        row["id"] for row in round_.workspace.read_json(round_.key("model/model.json"))["unreadable"]
    }
    return sorted(name for name in ids if name not in unreadable)


# ------------------------------------------------------------------------------------------------------- replay


def replay(config: Config, index: int | None = None, *, sample: int = 64, seed: int = 0) -> dict[str, Any]:
    """Score some images of a committed round again and compare with what it has stored.

    Args:
        config: of the project.
        index: the round; the last one by default.
        sample: how many ids, drawn by `seed`.
        seed: of the draw.

    Returns:
        How many were compared and are equal to the bit, the ids that differ with the largest relative difference,
        and those whose images can't be had any more.
    """
    round_ = _Round.open(config, index)
    ids = [name for part in round_.parts("scores/", ["id"]) for name in part["id"].to_pylist()]
    chosen = pa.array(sorted(random.Random(seed).sample(ids, min(sample, len(ids)))), pa.string())
    rows = [
        row
        for part in round_.parts("scores/")
        for row in part.filter(pc.is_in(part["id"], chosen)).to_pylist()
    ]
    by_shard: dict[int, list[str]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row["id"])
    stored = {row["id"]: row for row in rows}
    equal, differ, gone = 0, {}, {}
    for name, pixels in round_.pixels(by_shard):
        if isinstance(pixels, str):
            gone[name] = pixels
            continue
        again = {column: values[0] for column, values in round_.scorer.columns(pixels[None], [name]).items()}
        gaps = [_gap(again[c], stored[name][c]) for c in (*SCORE_NAMES, *round_.config.extra_columns)]
        same_class = again["predicted"] == stored[name]["predicted"]
        if same_class and not any(gaps):
            equal += 1
        else:
            differ[name] = max(gaps) if same_class else float("inf")
    return {
        "round": round_.index,
        "compared": equal + len(differ),
        "equal": equal,
        "differ": differ,
        "gone": gone,
    }


def _gap(again: float, stored: float) -> float:
    return 0.0 if again == stored else abs(again - stored) / max(abs(again), abs(stored))
