"""The steps of a round that look at the pool: score all of it, select the best few, ask about them."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

import sisom
from pipeline.ask import groups as triage
from pipeline.ask import selection
from pipeline.ask import whole_pool as pool_picks
from pipeline.ask.far_filter import tune_filter
from pipeline.labels import oracle
from pipeline.rounds.stored import bank_file, stored_bank, stored_detector, stored_network
from pipeline.rounds.work import Work
from pipeline.score import job as scoring
from pipeline.score.account import clear_parts, clear_together
from pipeline.score.broadcast import Models
from pipeline.workspace import keys


def score(work: Work) -> None:
    """Score the whole pool and account for every row of it."""
    if work.done(keys.ACCOUNT):
        clear_parts(work.folder)  # what a run that died here has left
        return
    account: scoring.Account | None = None
    with work.timed("score", lambda: account.images if account else 0):
        live = partial(work.project.tracker.progress, work.index)
        account = scoring.score_pool(_scoring_job(work), work.project.voice, live)
        counts = {name: getattr(account, name) for name in ("listed", "scored", "quarantined")}
        work.workspace.write_json(work.key(keys.ACCOUNT), counts)
    clear_parts(work.folder)


def _scoring_job(work: Work) -> scoring.Job:
    models = Models(
        work.network,
        stored_bank(work.workspace, work.index),
        bank_file(work.workspace, work.index),
        detector=stored_detector(work.workspace, work.index, work.network, work.config),
        members=(
            stored_network(work.workspace, work.index, work.config, member)
            for member in range(1, work.config.query.networks)
        ),
    )
    return scoring.prepare(work.snapshot, models, work.config, cluster=work.cluster, seed=work.plan["seed"])


def select(work: Work) -> None:
    """Choose the rows that are worth asking about, as the query's strategy and budgets want them."""
    if work.done(keys.QUERY):
        clear_together(work.folder)  # what a run that died here has left
        return
    with work.timed("select"):
        workspace, plan, seed = work.workspace, work.query_plan, work.plan["seed"]
        found = tune_filter(work.folder, work.labels)
        workspace.write_json(work.key(keys.FAR_FILTER), found)
        far_from = found["far_from"]
        answered = selection.settled(workspace, work.index, work.labels)
        extra = work.config.extra_columns
        kept = selection.gather(work.folder, answered, plan, far_from, seed=seed, extra=extra)
        if plan.together and (budget := selection.informative_budget(kept, plan, far_from)):
            kept = selection.with_informative(kept, _together(work, answered, budget))
        novel = selection.novel_places(kept, plan, far_from)
        groups = None
        if novel.num_rows:
            groups = triage.groups_of(
                novel, selection.novel_budget(plan, far_from), work.snapshot, work.network, work.config,
                work.cluster, seed=seed,
            )  # fmt: skip
        workspace.write_table(work.key(keys.QUERY), selection.query(kept, plan, far_from, groups))
    clear_together(work.folder)


def _together(work: Work, answered: frozenset[str], budget: int) -> pa.Table:
    """The informative rows, picked by a strategy that looks at them together."""
    rows = work.embedded
    question = pool_picks.Question(
        folder=work.folder,
        answered=answered,
        plan=work.query_plan,
        head=sisom.Head.of(work.network.build("cpu")),
        taxonomy=work.config.taxonomy,
        slopes=work.workspace.read_json(work.key(keys.SLOPES))["slopes"],
        labeled=sisom.Labeled(rows.features, rows.targets, len(work.config.taxonomy)),
        seed=work.plan["seed"],
        threads=work.plan["scoring"]["threads"],
    )
    shards = work.snapshot.numbers.tolist()
    return pool_picks.pick(question, shards, budget, work.cluster, rows=work.snapshot.rows)


def ask(work: Work) -> None:
    """Let the simulated oracle answer at once; people answer in their own time."""
    key = keys.oracle_answers_key(work.index)
    if work.config.oracle.kind == "simulated" and not work.workspace.exists(key):
        assert work.truth is not None
        ids = work.workspace.read_table(work.key(keys.QUERY), ["id"])["id"].to_pylist()
        propose = work.config.open_world.promote_at is not None
        work.workspace.write_table(key, oracle.simulated(work.truth, ids, propose=propose))
