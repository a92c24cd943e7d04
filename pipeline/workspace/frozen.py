"""What a round has frozen of its config: the classes that it knows, and what its scores were computed on.

The taxonomy of the config is where a project begins. A class that people propose joins at a round's start, once enough
answers name it, behind the classes before it: a head's rows keep their meaning from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.project import MAX_CLASSES, Config
from pipeline.errors import ArtefactMissing
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


def grown(taxonomy: Sequence[str], proposed: Mapping[str, int], promote_at: int | None) -> tuple[str, ...]:
    """The taxonomy with the proposed classes that have enough answers, those with most first, ties by name.

    Args:
        taxonomy: of the round before, in head order.
        proposed: answers that name each class which is not in it.
        promote_at: how many are enough; None if no class may join.
    """
    if promote_at is None:
        return tuple(taxonomy)
    enough = [name for name, answers in proposed.items() if answers >= promote_at and name not in taxonomy]
    return (*taxonomy, *sorted(enough, key=lambda name: (-proposed[name], name)))[:MAX_CLASSES]


def as_planned(config: Config, plan: Mapping[str, Any]) -> Config:
    """The config with what a round's `plan.json` has frozen: taxonomy, device and threads of scoring."""
    return config.model_copy(
        update={
            "taxonomy": tuple(plan["taxonomy"]),
            "resources": config.resources.model_copy(update=plan["scoring"]),
        }
    )


def of_round(workspace: Workspace, config: Config, index: int) -> Config:
    """The config as a planned round has it; see `as_planned`."""
    return as_planned(config, workspace.read_json(round_key(index, keys.PLAN)))


def latest(workspace: Workspace, config: Config) -> Config:
    """The config with the taxonomy of the last round that is planned, which label files must fit now."""
    for index in (workspace.committed(), workspace.committed() - 1):
        if index >= 0:
            try:
                plan = workspace.read_json(round_key(index, keys.PLAN))
            except ArtefactMissing:
                continue
            return config.model_copy(update={"taxonomy": tuple(plan.get("taxonomy", config.taxonomy))})
    return config
