"""The steps that look at the pool: score, select, ask."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

import sisom
from pipeline.ask import groups, selection, whole_pool
from pipeline.ask.far_filter import tune_filter
from pipeline.labels import oracle
from pipeline.rounds import steps
from pipeline.rounds.work import Work
from pipeline.score import job as scoring
from pipeline.score.account import clear_parts, clear_together
from pipeline.score.files import columns_of
from pipeline.workspace import keys


def score(work: Work) -> None:
    """Score the whole pool and account for every row of it."""
    if work.done(steps.SCORE):
        clear_parts(work.folder)  # what a run that died here has left
        return
    scored: scoring.Scored | None = None
    with work.timed(steps.SCORE.name, lambda: scored.images if scored else 0):
        live = partial(work.project.tracker.progress, work.index)
        models, seed = work.round.models(), work.round.plan.seed
        job = scoring.prepare(work.round.snapshot, models, work.config, cluster=work.cluster, seed=seed)
        scored = scoring.score_pool(job, work.project.voice, live)
        scored.account.write(work.folder)
    clear_parts(work.folder)


def select(work: Work) -> None:
    """Choose the rows to ask about by the query's strategy and budgets."""
    if work.done(steps.SELECT):
        clear_together(work.folder)  # what a run that died here has left
        return
    with work.timed(steps.SELECT.name):
        folder, plan, seed = work.folder, work.query_plan, work.round.plan.seed
        far_filter = tune_filter(folder, work.labels)
        far_filter.write(folder)
        far_from = far_filter.far_from
        answered = selection.settled(work.workspace, work.index, work.labels)
        extra = work.config.extra_columns
        rules = selection.QueryRules(plan, far_from, seed)
        kept = selection.gather(folder, rules, answered=answered, extra=extra)
        if plan.together and (budget := selection.informative_budget(kept, plan, far_from)):
            kept = selection.with_informative(kept, _together(work, answered, budget))
        novel = selection.novel_places(kept, plan, far_from)
        assigned = None
        if novel.num_rows:
            images = groups.PoolImages(work.round.snapshot, work.round.network, work.config)
            budget = selection.novel_budget(plan, far_from)
            assigned = groups.groups_of(novel, images, work.cluster, count=budget, seed=seed)
        query = selection.query(kept, plan, far_from, groups=assigned)
        folder.write_table(keys.QUERY, _with_metadata(query, work))
    clear_together(work.folder)


def _with_metadata(query: pa.Table, work: Work) -> pa.Table:
    """Add the columns of `pool.metadata` to a query."""
    names = work.config.pool.metadata
    if not names:
        return query
    ids = query["id"].to_pylist()
    values = columns_of(work.folder, ids, names)
    for place, name in enumerate(names):
        query = query.append_column(name, pa.array([values[each][place] for each in ids], pa.string()))
    return query


def _together(work: Work, answered: frozenset[str], budget: int) -> pa.Table:
    """Pick the informative rows by a strategy that looks at all together."""
    rows, stored = work.embedded, work.round
    question = whole_pool.Question(
        folder=work.folder,
        answered=answered,
        plan=work.query_plan,
        head=sisom.Head.of(stored.network.build("cpu")),
        taxonomy=work.config.taxonomy,
        slopes=stored.slopes,
        labeled=sisom.Labeled(rows.features, rows.targets, len(work.config.taxonomy)),
        seed=stored.plan.seed,
        threads=stored.plan.scoring.threads,
    )
    shards = stored.snapshot.numbers.tolist()
    return whole_pool.pick(question, shards, work.cluster, count=budget, rows=stored.snapshot.rows)


def ask(work: Work) -> None:
    """Let the simulated oracle answer; people do so in their time."""
    if work.config.oracle.kind == "simulated" and not work.done(steps.ASK):
        assert work.truth is not None
        propose = work.config.open_world.promote_at is not None
        answers = oracle.simulated(work.truth, work.round.asked, propose=propose)
        work.workspace.write_table(steps.ASK.artefact(work.index), answers)
