"""The first step of a round: freeze the inputs, so that whatever happens afterwards decides the same."""

from __future__ import annotations

from pipeline.ask import whole_pool as pool_picks
from pipeline.config.project import Config
from pipeline.errors import LabelError, printable
from pipeline.labels import oracle
from pipeline.labels.batches import batches, read_labels
from pipeline.learn import rows as labeled
from pipeline.pool.listing import freeze
from pipeline.rounds.work import Work, round_seed
from pipeline.score.memory import foresee
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import grown, latest


def plan(work: Work) -> None:
    """Freeze the inputs: labels, classes, the listing of the pool, the labeled rows' places, seed and config."""
    if work.done(keys.PLAN):
        return
    with work.timed("plan"):
        config, workspace, voice = work.project.config, work.workspace, work.project.voice
        batch_keys = _label_batches(work)
        before = latest(workspace, config).taxonomy
        proposed = read_labels(workspace, batch_keys, before).proposed()
        taxonomy = grown(before, proposed, config.open_world.promote_at)
        for name in taxonomy[len(before) :]:
            voice.say(f"  classes   {printable(name)!r} joins: {proposed[name]} answers name it")
        answers = read_labels(workspace, batch_keys, taxonomy)
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
        workspace.write_table(work.key(keys.LABELED), rows)
        plan = {
            "index": work.index,
            "seed": round_seed(config.seed, work.index),
            "config": config.identity(),
            "config_digest": config.digest(),
            "taxonomy": list(taxonomy),
            "labels": batch_keys,
            "label_digests": {key: workspace.digest(key) for key in batch_keys},
            "labels_without_image": len(ids) - len(here),
            "query_size": _affordable(config, len(answers.answered())),
            "pool": {
                "shards": len(listing.snapshot),
                "rows": listing.snapshot.rows,
                "other": listing.other,
                "duplicates": listing.duplicates.num_rows,
                "changes": listing.changes,
                "digest": listing.snapshot.digest(),
            },
            "threads": max(1, (work.cluster.node_cpus - 1) // config.train.num_workers),
            # Another device or number of threads may change the last bit of a score.
            "scoring": {"device": work.cluster.device, "threads": config.resources.threads},
        }
        workspace.write_json(work.key(keys.PLAN), plan)


def _affordable(config: Config, answered: int) -> int:
    """How many questions the budget of labels still pays for, up to the size of a query."""
    left = config.query.size if config.stop.labels is None else config.stop.labels - answered
    return max(0, min(config.query.size, left))


def _label_batches(work: Work) -> list[str]:
    """The label files that exist now; the first one is made."""
    config, workspace = work.project.config, work.workspace
    if not workspace.exists(keys.INITIAL_LABELS):
        workspace.write_table(keys.INITIAL_LABELS, oracle.initial(config))
    return batches(workspace)
