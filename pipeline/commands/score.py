"""Out-of-distribution scores and verdicts for any images, with the network and bank of a committed round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from pipeline.cluster import joining as engine
from pipeline.cluster.layout import Cluster
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.encoding import to_json
from pipeline.errors import WorkspaceMismatch
from pipeline.pool.listing import freeze
from pipeline.pool.shards import check_pool
from pipeline.pool.snapshot import Snapshot
from pipeline.rounds.stored import bank_file, stored_bank, stored_detector, stored_network
from pipeline.score import job as scoring
from pipeline.score.account import clear_parts
from pipeline.score.broadcast import Models
from pipeline.store.opening import open_store
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import of_round
from pipeline.workspace.keys import round_key
from pipeline.workspace.lease import Guarded, Lease


def give_verdicts(
    config: Config, pool_uri: str, out_uri: str, voice: Voice, *, index: int | None = None
) -> dict[str, Any]:
    """Score the images below `pool_uri` into `out_uri`: `scores/`, `quarantine/` and `summary.json`.

    Running it again goes on where it stopped.

    Args:
        config: of the project whose round is used; its column names hold for this pool too.
        pool_uri: Parquet files with ids and images.
        out_uri: a folder or `s3://` prefix for the results.
        voice: where progress is shown.
        index: the round; the last committed one by default.

    Returns:
        The summary: counts, how many rows are out of distribution, threshold and digests.

    Raises:
        UserError: no such round, or `out_uri` holds the scores of something else.
    """
    project = open_workspace(config)
    project.check(config)  # its layers, taxonomy and threshold belong to the round
    chosen = project.committed_round(index)
    taxonomy = of_round(project, config, chosen).taxonomy
    other = config.model_copy(
        update={
            "taxonomy": taxonomy,
            "query": QueryPlan(),  # nobody is asked: no priorities
            "pool": config.pool.model_copy(update={"uri": pool_uri}),
            "scoring": config.scoring.model_copy(update={"max_quarantined": 1.0}),  # report, don't refuse
        }
    )
    check_pool(other.pool, other.storage)
    out = Workspace(open_store(out_uri, config.storage))
    plan = {
        "pool": pool_uri,
        "round": chosen,
        "model_digest": project.digest(round_key(chosen, keys.MODEL_WEIGHTS)),
        "bank_digest": project.digest(round_key(chosen, keys.BANK)),
    }
    if not out.exists(keys.PLAN) and (found := next(iter(out.store.list()), None)) is not None:
        raise WorkspaceMismatch(f"{out.store.url(found.key)} is there already; give --out an empty place")
    if not out.store.put_if_absent(keys.PLAN, to_json(plan)) and out.read_json(keys.PLAN) != plan:
        raise WorkspaceMismatch(
            f"{out_uri} holds the scores of another pool or round; give --out another place"
        )
    with Lease(out.store) as lease:  # one writer here too
        return _scored(project, Workspace(Guarded(out.store, lease)), other, plan, voice)


def _scored(
    project: Workspace, out: Workspace, config: Config, plan: Mapping[str, Any], voice: Voice
) -> dict[str, Any]:
    """Score what is not scored yet, and sum up; what is summed up is done."""
    if out.exists(keys.SUMMARY):
        voice.say(
            f"{out.store.uri} holds the finished scores of this pool and round; a new --out scores it anew"
        )
        clear_parts(Folder(out))
        done: dict[str, Any] = out.read_json(keys.SUMMARY)
        return done
    chosen = plan["round"]
    cluster = engine.start(config)
    snapshot = _listed(out, config, cluster, voice)
    bank = stored_bank(project, chosen)
    network = stored_network(project, chosen, config)
    detector = stored_detector(project, chosen, network, config)
    models = Models(network, bank, bank_file(project, chosen), detector)
    job = scoring.prepare(snapshot, models, config, cluster=cluster)
    account = scoring.score_pool(job, voice)
    strange = sum(pc.sum(table["is_ood"]).as_py() or 0 for table in out.tables(keys.SCORES, ["is_ood"]))
    summary = {
        "listed": account.listed,
        "scored": account.scored,
        "quarantined": account.quarantined,
        "is_ood": strange,
        "score": config.scoring.score,
        "threshold": bank.threshold,
        **{name: plan[name] for name in ("pool", "round", "model_digest", "bank_digest")},
    }
    out.write_json(keys.SUMMARY, summary)
    clear_parts(Folder(out))
    return summary


def _listed(out: Workspace, config: Config, cluster: Cluster, voice: Voice) -> Snapshot:
    """The listing that these scores are of: made once, and gone on with afterwards."""
    if not out.exists(keys.LISTING):
        listing = freeze(Folder(out), config, cluster)
        out.write_json(keys.LISTING, {"rows": listing.snapshot.rows, "digest": listing.snapshot.digest()})
        voice.say(listing.told())
    return Snapshot.read(Folder(out))
