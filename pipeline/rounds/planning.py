"""The plan step: freeze the inputs that decide a round."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ask.whole_pool import check_memory
from pipeline.config.history import Change, changes, whole
from pipeline.config.project import Config
from pipeline.errors import ConfigError, LabelError, printable
from pipeline.labels.forms.values import spellings
from pipeline.labels.sets import read_sets
from pipeline.learn.rows import labeled_table, places_of, spelled
from pipeline.learn.seeds import round_seed
from pipeline.pool.listing import Listing, freeze
from pipeline.rounds import steps
from pipeline.rounds.outside import Outside
from pipeline.rounds.work import Work
from pipeline.score.memory import foresee
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import changed_since, grown, latest, of_round
from pipeline.workspace.plan import Plan, PlannedPool, PlannedScoring

MOST_CHANGES = 8  # keys of the config that are named when it has changed


def plan(work: Work) -> None:
    """Freeze labels, classes, the listing of the pool, seed and config.

    A planned round goes on as it was planned, whatever the config says by now. Only one that has no network yet is
    planned anew when the config has changed: nothing was decided, and the change may be what lets it go on.
    """
    if work.done(steps.PLAN):
        later = list(changes(whole(work.round.plan.config), work.project.config.frozen()))
        if not later:
            return
        if work.folder.names(keys.MODEL_FOLDER):
            _say_changes(work, later, "from the next round on, {}")
            return
        work.project.voice.say("  config    has changed before anything was trained: planning anew")
    _check_start(work)
    with work.timed(steps.PLAN.name):
        config, workspace, voice = work.project.config, work.workspace, work.project.voice
        files = work.project.label_files
        before = latest(workspace, config).taxonomy
        proposed = files.labels(before).proposed()
        taxonomy = grown(before, proposed, config.open_world.promote_at)
        for name in taxonomy[len(before) :]:
            voice.say(f"  classes   {printable(name)!r} joins: {proposed[name]} answers name it")
        answers = files.labels(taxonomy)
        ids, names = answers.labeled()
        outside = Outside.of(read_sets(config, taxonomy), answers)
        if len({*names, *outside.labels.values()}) < 2:
            raise LabelError(
                f"{workspace.store.url(keys.LABELS)}: labels of fewer than two classes can't train anything"
            )
        earlier = Folder.of_round(workspace, work.index - 1) if work.index else None
        wanted = [*(other for name in ids for other in spellings(name)), *outside.all_ids]
        listing = freeze(work.folder, config, cluster=work.cluster, wanted=wanted, earlier=earlier)
        voice.say(f"  pool      {listing.told()}")
        outside.check(listing.found)
        of_pool = {i: label for i, label in zip(ids, names, strict=True) if i not in outside.all_ids}
        places = places_of(list(of_pool), listing, config, strict=work.index == 0)
        numbers = {name: i for i, name in enumerate(taxonomy)}
        here = {name: numbers[label] for name, label in of_pool.items() if name in places}
        there = {name: numbers[label] for name, label in outside.labels.items()}
        rows = labeled_table(
            [*here.items(), *there.items()],
            {**places, **outside.places},
            share=config.train.held_out,
            seed=config.seed,
            sets=outside.sets,
        )
        if missing := [name for name in of_pool if name not in places]:
            voice.say(
                f"  labels    {len(missing)} are of images that the pool does not have, such as "
                f"{printable(repr(missing[0]))}{spelled(missing, listing)}"
            )
        if outside.listings:
            voice.say(f"  sets      {outside.told()}")
        foreseen = foresee(config, work.cluster, rows=listing.snapshot.rows, labeled=rows.num_rows)
        voice.say(f"  {foreseen.told()}")  # before training: a pool that can't be scored needs none
        check_memory(config, work.cluster, rows=listing.snapshot.rows)
        work.folder.write_table(keys.LABELED, rows)
        planned = Plan(
            index=work.index,
            seed=round_seed(config.seed, work.index),
            config=config.frozen(),
            config_digest=config.digest(),
            taxonomy=taxonomy,
            labels=tuple(files.keys),
            label_digests=files.digests,
            labels_without_image=len(of_pool) - len(here),
            query_size=_affordable(config, len(answers.answered())),
            pool=_in_numbers(listing),
            threads=max(1, (work.cluster.node_cpus - 1) // config.train.num_workers),
            scoring=PlannedScoring(device=work.cluster.device, threads=config.resources.threads),
        )
        if outside.listings:
            planned = planned.model_copy(update={"sets": outside.freeze(work.folder, config)})
        planned.write(work.folder)
    _say_changes(work, changed_since(workspace, work.index), "{}")


def _check_start(work: Work) -> None:
    """Refuse to start from the last round's network of another model.

    `train.start: last` needs the model name of the last round.

    Raises:
        ConfigError: the config names another model.
    """
    config = work.project.config
    if config.train.start == "last" and work.index > 0:
        last = of_round(work.workspace, config, work.index - 1).model.name
        if last != config.model.name:
            raise ConfigError(
                f"train.start: last goes on with the network of round {work.index - 1:03d}, {last!r}, but "
                f"model.name is {config.model.name!r}; set train.start to fresh for one round"
            )


def _say_changes(work: Work, found: Sequence[Change], form: str) -> None:
    """Name the config's changed keys, one a line.

    Only the first `MOST_CHANGES` of them are named.
    """
    for change in found[:MOST_CHANGES]:
        work.project.voice.say(f"  config    {form.format(printable(str(change)))}")
    if len(found) > MOST_CHANGES:
        work.project.voice.say(f"  config    {len(found) - MOST_CHANGES} more keys changed; see plan.json")


def _in_numbers(listing: Listing) -> PlannedPool:
    return PlannedPool(
        shards=len(listing.snapshot),
        rows=listing.snapshot.rows,
        other=listing.other,
        duplicates=listing.duplicates.num_rows,
        changes=listing.changes,
        left=listing.left,
        unreadable=listing.loss,
        digest=listing.snapshot.digest(),
    )


def _affordable(config: Config, answered: int) -> int:
    """Return how many questions the label budget still pays for."""
    left = config.query.size if config.stop.labels is None else config.stop.labels - answered
    return max(0, min(config.query.size, left))
