"""Out-of-distribution scores and verdicts for any images, with the network and bank of a committed round."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipeline import engine, scoring
from pipeline.config import Config
from pipeline.errors import WorkspaceMismatch
from pipeline.outcome import stored_bank, stored_network
from pipeline.pool import list_shards, snapshot_table
from pipeline.progress import Voice
from pipeline.storage import open_store
from pipeline.workspace import Workspace, open_workspace, round_key, to_json


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
    other = config.model_copy(
        update={
            "pool": config.pool.model_copy(update={"uri": pool_uri}),
            "scoring": config.scoring.model_copy(update={"max_quarantined": 1.0}),  # report, don't refuse
        }
    )
    shards = list(list_shards(other.pool, other.storage))
    out = Workspace(open_store(out_uri, config.storage))
    plan = {
        "pool": pool_uri,
        "round": chosen,
        "model_digest": project.digest(round_key(chosen, "model/model.safetensors")),
        "bank_digest": project.digest(round_key(chosen, "bank.safetensors")),
        "shards": [[shard.uri, shard.row_group, shard.rows, shard.etag] for shard in shards],
    }
    if not out.exists("plan.json") and (found := next(iter(out.store.list()), None)) is not None:
        raise WorkspaceMismatch(f"{out.store.url(found.key)} is there already; give --out an empty place")
    if not out.store.put_if_absent("plan.json", to_json(plan)) and out.read_json("plan.json") != plan:
        raise WorkspaceMismatch(
            f"{out_uri} holds the scores of another pool or round; give --out another place"
        )
    out.write_table("pool/00000.parquet", snapshot_table(shards))
    bank = stored_bank(project, chosen)
    cluster = engine.start(config)
    network = stored_network(project, chosen, config)
    account = scoring.score_pool(out, "", shards, network, bank, other, cluster, voice)
    strange = sum(pc.sum(table["is_ood"]).as_py() or 0 for table in out.tables("scores/", ["is_ood"]))
    summary = {
        "listed": account.listed,
        "scored": account.scored,
        "quarantined": account.quarantined,
        "is_ood": strange,
        "score": config.scoring.score,
        "threshold": bank.threshold,
        **{name: plan[name] for name in ("pool", "round", "model_digest", "bank_digest")},
    }
    out.write_json("summary.json", summary)
    return summary
