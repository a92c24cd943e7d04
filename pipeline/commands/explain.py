"""`sisom explain`: why an image was asked about or not.

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
from pipeline.labels.files import LabelFiles
from pipeline.rounds.stored import StoredRound
from pipeline.workspace import keys
from sisom.bank.enhance import enhance
from sisom.nearest.distances import neighbors
from sisom.nearest.queries import Queries

NEAREST = 3  # bank points shown on each side


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
    stored = StoredRound.open(config, index)
    known: dict[str, Any] = {"id": name, "round": stored.index}
    scored = stored.row(keys.SCORES, name)
    if scored is None:
        broken = stored.row(keys.QUARANTINE, name)
        if broken is None:
            raise UserError(f"round {stored.index:03d} has no id {name!r} in its pool {config.pool.place}")
        return known | {"quarantined": broken, "asked": False, "why": "it is in quarantine"}
    known |= {"scores": scored, "threshold": stored.bank.threshold}
    known |= _standing(stored, scored)
    known |= _nearest(stored, scored)
    for digest, key in (("model", keys.MODEL_WEIGHTS), ("bank", keys.BANK)):
        known[f"{digest}_digest"] = stored.folder.digest(key)
    return known


def _standing(stored: StoredRound, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Tell why an id was asked about or not, and its rank."""
    plan, seed = stored.config.query, stored.plan.seed
    asked = stored.folder.read_table(keys.QUERY).to_pylist()
    files = LabelFiles(stored.workspace, renamed=stored.config.labels.renamed).only(stored.plan.labels)
    answers = files.labels(stored.config.taxonomy)
    answered = pa.array(sorted(settled(stored.workspace, stored.index, answers)), pa.string())
    far_from = stored.far_from
    columns = [*COLUMNS, *stored.config.extra_columns]
    one = pa.Table.from_pylist([dict(scored)]).select(columns)
    kind = kinds(one, far_from)[0].as_py()
    priority = float(priorities(one, plan.strategy, seed)[0])
    before = 0
    together = plan.together and kind == "informative"
    for part in [] if together else stored.parts(keys.SCORES, columns):
        alike = pc.equal(kinds(part, far_from), kind)
        rows = part.filter(pc.and_(alike, _not_in(part["id"], answered)))
        wanted = priorities(rows, plan.strategy, seed)
        earlier = np.asarray([other < scored["id"] for other in rows["id"].to_pylist()], np.bool_)
        before += int(((wanted > priority) | ((wanted == priority) & earlier)).sum())
    standing = {"priority": priority, "rank": before, "kind": kind, "far_from": far_from}
    if together:  # nobody ranks such rows one by one
        standing |= {"priority": None, "rank": None}
    for row in asked:
        if row["id"] == scored["id"]:
            return standing | {"asked": True, "why": f"rank {row['rank']} of the query: {row['reason']}"}
    if scored["id"] in answers.answered():
        return standing | {"asked": False, "why": "it had an answer already"}
    if pc.is_in(pa.scalar(scored["id"]), value_set=answered).as_py():
        return standing | {
            "asked": False,
            "why": "an earlier round had asked about it, and its answer was awaited",
        }
    why = f"{before} {kind} images were wanted more, too many for the query"
    if together:
        why = f"{plan.strategy} looks at the pool's images together, and has picked others"
    if kind == "novel":
        why = f"{before} novel images were wanted more, and of those that look alike only the first are asked about"
    return standing | {"asked": False, "why": why}


def _not_in(ids: pa.ChunkedArray, answered: pa.Array) -> Any:
    return pc.invert(pc.is_in(ids, value_set=answered))


def _nearest(stored: StoredRound, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Find the bank points that made the distances of an id."""
    ((_, pixels),) = stored.pixels({scored["shard"]: [scored["id"]]})
    if isinstance(pixels, str):
        return {"image": f"cannot be looked at any more: {pixels}"}
    bank = stored.bank
    torch.set_num_threads(stored.config.resources.threads)
    features = stored.extractor(pixels[None])
    again = sisom.score(bank, features)
    query = enhance(features.saliency, features.layer_dims, bank.slopes)
    asked = Queries(query, again.predicted)
    nearest = neighbors(asked, bank.sorted_points, inner=NEAREST, outer=NEAREST)
    ids, taxonomy = stored.fitted_ids, stored.config.taxonomy

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
        "inside": points(nearest.inner, nearest.inner_index),
        "outside": points(nearest.outer, nearest.outer_index),
        "same_scores": all(getattr(again, n)[0].item() == scored[n] for n in SCORE_NAMES),
    }
