"""The plan step: freeze the inputs that decide a round."""

from __future__ import annotations

from pipeline.ask import whole_pool as pool_picks
from pipeline.config.project import Config
from pipeline.errors import LabelError, printable
from pipeline.learn import rows as labeled
from pipeline.pool.listing import Listing, freeze
from pipeline.rounds import steps
from pipeline.rounds.work import Work, round_seed
from pipeline.score.memory import foresee
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import grown, latest
from pipeline.workspace.plan import Plan, PlannedPool, PlannedScoring


def plan(work: Work) -> None:
    """Freeze labels, classes, the listing of the pool, seed and config."""
    if work.done(steps.PLAN):
        return
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
        if len(set(names)) < 2:
            raise LabelError(
                f"{workspace.store.url(keys.LABELS)}: labels of fewer than two classes can't train anything"
            )
        earlier = Folder.of_round(workspace, work.index - 1) if work.index else None
        listing = freeze(work.folder, config, work.cluster, wanted=ids, earlier=earlier)
        voice.say(f"  pool      {listing.told()}")
        places = labeled.places_of(ids, listing, config, strict=work.index == 0)
        numbers = {name: i for i, name in enumerate(taxonomy)}
        here = [(name, numbers[label]) for name, label in zip(ids, names, strict=True) if name in places]
        rows = labeled.labeled_table(here, places, config.train.held_out, config.seed)
        foreseen = foresee(config, work.cluster, rows=listing.snapshot.rows, labeled=rows.num_rows)
        voice.say(f"  {foreseen.told()}")  # what can't be scored need not be trained for
        pool_picks.foresee(config, work.cluster, rows=listing.snapshot.rows)
        work.folder.write_table(keys.LABELED, rows)
        Plan(
            index=work.index,
            seed=round_seed(config.seed, work.index),
            config=config.identity(),
            config_digest=config.digest(),
            taxonomy=taxonomy,
            labels=tuple(files.keys),
            label_digests=files.digests,
            labels_without_image=len(ids) - len(here),
            query_size=_affordable(config, len(answers.answered())),
            pool=_in_numbers(listing),
            threads=max(1, (work.cluster.node_cpus - 1) // config.train.num_workers),
            scoring=PlannedScoring(device=work.cluster.device, threads=config.resources.threads),
        ).write(work.folder)


def _in_numbers(listing: Listing) -> PlannedPool:
    return PlannedPool(
        shards=len(listing.snapshot),
        rows=listing.snapshot.rows,
        other=listing.other,
        duplicates=listing.duplicates.num_rows,
        changes=listing.changes,
        digest=listing.snapshot.digest(),
    )


def _affordable(config: Config, answered: int) -> int:
    """Return how many questions the label budget still pays for."""
    left = config.query.size if config.stop.labels is None else config.stop.labels - answered
    return max(0, min(config.query.size, left))
