"""`sisom score`: score any images with the models of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from pipeline.cluster import joining
from pipeline.cluster.layout import Cluster
from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from pipeline.encoding import to_json
from pipeline.errors import WorkspaceMismatch
from pipeline.pool.listing import freeze
from pipeline.pool.shards import check_pool
from pipeline.pool.snapshot import Snapshot
from pipeline.pool.source import PoolSource
from pipeline.rounds.stored import StoredRound, stored_detector
from pipeline.score import job as scoring
from pipeline.score.account import clear_parts
from pipeline.score.broadcast import Models
from pipeline.store.opening import open_store
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.lease import Guarded, Lease


def score(
    config: Config, pool_uri: str, out_uri: str, *, voice: Voice, index: int | None = None
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
    stored = StoredRound.open(config, index)
    planned = stored.config
    other = planned.model_copy(
        update={
            "query": QueryPlan(),  # nobody is asked: no priorities
            "pool": config.pool.model_copy(update={"uri": pool_uri}),
            "scoring": planned.scoring.model_copy(update={"max_quarantined": 1.0}),  # report, don't refuse
        }
    )
    check_pool(PoolSource.of(other))
    out = Folder(Workspace(open_store(out_uri, config.storage)))
    sources = {
        "pool": pool_uri,
        "round": stored.index,
        "model_digest": stored.folder.digest(keys.MODEL_WEIGHTS),
        "bank_digest": stored.folder.digest(keys.BANK),
        **({"metadata": list(config.pool.metadata)} if config.pool.metadata else {}),
    }
    store = out.workspace.store
    if not out.exists(keys.PLAN) and (entry := next(iter(store.list()), None)) is not None:
        raise WorkspaceMismatch(f"{store.url(entry.key)} is there already; give --out an empty place")
    if not store.put_if_absent(keys.PLAN, to_json(sources)) and out.read_json(keys.PLAN) != sources:
        raise WorkspaceMismatch(
            f"{out_uri} holds the scores of another pool or round; give --out another place"
        )
    with Lease(store) as lease:  # one writer here too
        guarded = Folder(Workspace(Guarded(store, lease)))
        return _score(_Wanted(stored, sources, other, guarded), voice)


@dataclass(frozen=True)
class _Wanted:
    """The scores of a round's models on another pool.

    Args:
        stored: the round.
        sources: what the scores are of, as the summary tells it.
        config: of the round, with the other pool.
        out: where they go.
    """

    stored: StoredRound
    sources: Mapping[str, Any]
    config: Config
    out: Folder


def _score(wanted: _Wanted, voice: Voice) -> dict[str, Any]:
    """Score what is not scored yet, and sum up."""
    stored, config, out = wanted.stored, wanted.config, wanted.out
    if out.exists(keys.SUMMARY):
        place = out.workspace.store.uri
        voice.say(f"{place} holds the finished scores of this pool and round; a new --out scores it anew")
        clear_parts(out)
        done: dict[str, Any] = out.read_json(keys.SUMMARY)
        return done
    cluster = joining.start(config)
    snapshot = _listed(out, config, cluster=cluster, voice=voice)
    detector = stored_detector(stored.folder, stored.network, config)
    models = Models(stored.network, stored.bank, stored.bank_file, detector)
    job = scoring.prepare(snapshot, models, config, cluster=cluster)
    account = scoring.score_pool(job, voice).account
    strange = sum(pc.sum(table["is_ood"]).as_py() or 0 for table in out.tables(keys.SCORES, ["is_ood"]))
    summary = {
        "listed": account.listed,
        "scored": account.scored,
        "quarantined": account.quarantined,
        "is_ood": strange,
        "score": config.scoring.score,
        "threshold": stored.bank.threshold,
        **{name: value for name, value in out.read_json(keys.LISTING).items() if name == "unreadable"},
        **wanted.sources,
    }
    out.write_json(keys.SUMMARY, summary)
    clear_parts(out)
    return summary


def _listed(out: Folder, config: Config, *, cluster: Cluster, voice: Voice) -> Snapshot:
    """Return the listing of the pool, made once."""
    if not out.exists(keys.LISTING):
        listing = freeze(out, config, cluster=cluster)
        known = {"rows": listing.snapshot.rows, "digest": listing.snapshot.digest()}
        lost = {"unreadable": listing.loss.model_dump()} if listing.loss else {}
        out.write_json(keys.LISTING, known | lost)
        voice.say(listing.told())
    return Snapshot.read(out)
