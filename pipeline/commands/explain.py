"""The memory of decisions: why an image was asked about or not, and whether its scores come out again.

Works from the artefacts of a committed round alone, on this machine, without Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

import sisom
from pipeline.ask.selection import COLUMNS, SCORE_NAMES, kinds, priorities, settled
from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.labels.batches import read_labels
from pipeline.rounds.stored import _Round
from sisom.bank.enhance import enhance
from sisom.nearest.distances import neighbors
from sisom.nearest.queries import Queries

NEAREST = 3  # bank points shown on each side


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
    asked = Queries(query, again.predicted)
    found = neighbors(asked, bank.sorted_points, inner=NEAREST, outer=NEAREST)
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
