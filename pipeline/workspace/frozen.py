"""What a round has frozen of its config: the classes that it knows, and what its scores were computed on.

The taxonomy of the config is where a project begins. A class that people propose joins at a round's start, once enough
answers name it, behind the classes before it: a head's rows keep their meaning from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config.project import MAX_CLASSES, Config
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan


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


def as_planned(config: Config, plan: Plan) -> Config:
    """The config with what a round's plan has frozen: taxonomy, device and threads of scoring."""
    return config.model_copy(
        update={
            "taxonomy": plan.taxonomy,
            "resources": config.resources.model_copy(update=plan.scoring.model_dump()),
        }
    )


def of_round(workspace: Workspace, config: Config, index: int) -> Config:
    """The config as a planned round has it; see `as_planned`."""
    return as_planned(config, Plan.read(Folder.of_round(workspace, index)))


def latest(workspace: Workspace, config: Config) -> Config:
    """The config with the taxonomy of the last round that is planned, which label files must fit now."""
    for index in (workspace.committed(), workspace.committed() - 1):
        if index >= 0 and (plan := Plan.find(Folder.of_round(workspace, index))) is not None:
            return config.model_copy(update={"taxonomy": plan.taxonomy or config.taxonomy})
    return config
