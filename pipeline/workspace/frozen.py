"""The config as a round has frozen it.

A round is computed with the config that it was planned with, whatever the config says by now; only where, how long and
on what the work runs is taken from the config of today. A project begins with the taxonomy of the config. Classes join
at a round's start, behind the classes before them: those that the config has at its end by then, and those that
enough answers of people name. So a head's rows keep their meaning from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.config.history import Change, as_of_its_day, changes, whole
from pipeline.config.load import as_model
from pipeline.config.project import FREE_POOL, FREE_SCORING, MAX_CLASSES, Config
from pipeline.errors import ConfigError, WorkspaceMismatch
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan


def grown(taxonomy: Sequence[str], proposed: Mapping[str, int], promote_at: int | None) -> tuple[str, ...]:
    """Return the taxonomy with the classes that join it.

    Proposed classes with enough answers join, those with most first, ties by name, up to `MAX_CLASSES` in all.

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
    """Return the config that a round was planned with.

    Device and threads are those that were planned.

    Args:
        config: as it is now.
        plan: of the round. A key that its config lacks, since it is younger than the plan, has the value that the
            product had before the key existed; see `pipeline.config.history`.

    Raises:
        WorkspaceMismatch: a key that this release does not know; the plan is of a later one.
    """
    frozen = {**as_of_its_day(plan.config), "taxonomy": list(plan.taxonomy)}
    if frozen != {**config.frozen(), "taxonomy": frozen["taxonomy"]}:
        values = frozen | config.free()
        values["scoring"] |= {name: getattr(config.scoring, name) for name in FREE_SCORING}
        values["pool"] |= {name: getattr(config.pool, name) for name in FREE_POOL}
        try:
            config = as_model(Config, values, keys.PLAN)
        except ConfigError as error:
            raise WorkspaceMismatch(f"a round was planned by another release of sisom: {error}") from None
    return config.model_copy(
        update={
            "taxonomy": plan.taxonomy,
            "resources": config.resources.model_copy(update=plan.scoring.model_dump()),
        }
    )


def of_round(workspace: Workspace, config: Config, index: int) -> Config:
    """Return the config of a planned round; see `as_planned`."""
    return as_planned(config, Plan.read(Folder.of_round(workspace, index)))


def changed_since(workspace: Workspace, index: int) -> list[Change]:
    """List config changes between a planned round and the one before.

    The first round has none.
    """
    if index == 0:
        return []
    before, after = (Plan.read(Folder.of_round(workspace, i)).config for i in (index - 1, index))
    return list(changes(whole(before), whole(after)))


def latest(workspace: Workspace, config: Config) -> Config:
    """Return the config with the taxonomy that label files must fit now.

    It has the classes of the last round that is planned, by their names of today, and behind them those that joined
    the config since.
    """
    for index in (workspace.committed(), workspace.committed() - 1):
        if index >= 0 and (plan := Plan.find(Folder.of_round(workspace, index))) is not None:
            known = config.called_now(plan.taxonomy)
            joining = (name for name in config.taxonomy if name not in known)
            return config.model_copy(update={"taxonomy": (*known, *joining)})
    return config
