"""The files that a finished shard leaves, and the account: by id, every listed row is scored or quarantined.

Light on purpose: the workers that check the account need neither torch nor a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline.config import Config
from pipeline.errors import AccountError, QuarantineOverflow
from pipeline.pool import shard_ids
from pipeline.types import QUARANTINE, SCORES, Shard
from pipeline.workspace import Workspace


def score_key(prefix: str, shard: int) -> str:
    """Key of a shard's score file."""
    return f"{prefix}scores/{shard:06d}.parquet"


def quarantine_key(prefix: str, shard: int) -> str:
    """Key of a shard's quarantine file; only shards with broken rows have one."""
    return f"{prefix}quarantine/{shard:06d}.parquet"


def write_shard(workspace: Workspace, prefix: str, shard: int, rows: pa.Table) -> None:
    """Write a whole shard's quarantine and then its scores: the second is the promise."""
    broken = pc.is_valid(rows["reason"])
    bad = rows.filter(broken)
    if bad.num_rows:
        workspace.write_table(quarantine_key(prefix, shard), bad.select(QUARANTINE.names).cast(QUARANTINE))
    good = rows.filter(pc.invert(broken))
    workspace.write_table(score_key(prefix, shard), good.select(SCORES.names).cast(SCORES))


def account(workspace: Workspace, prefix: str, shards: Sequence[Shard], config: Config) -> tuple[int, int]:
    """Check by id that `scored + quarantined == listed`, shard by shard on workers.

    Returns:
        How many rows were scored, and how many quarantined.

    Raises:
        AccountError: an id of the pool is missing from the files, is there twice, or does not belong there.
        QuarantineOverflow: too many rows are broken.
    """
    check = ray.remote(num_cpus=0.25)(_check_shards)
    pieces = [list(shards[i : i + 64]) for i in range(0, len(shards), 64)]
    tallies = ray.get([check.remote(workspace, prefix, piece, config) for piece in pieces])
    wrong = [text for _, _, texts, _ in tallies for text in texts]
    if wrong:
        raise AccountError(f"the account does not add up in {len(wrong)} shards: {'; '.join(wrong[:3])}")
    scored = sum(tally[0] for tally in tallies)
    quarantined = sum(tally[1] for tally in tallies)
    allowed = config.scoring.max_quarantined * (scored + quarantined)
    if quarantined > allowed:
        reasons = sum((counts for *_, counts in tallies), Counter[str]())
        top = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:3]
        raise QuarantineOverflow(
            f"{quarantined} of {scored + quarantined} rows are broken, more than scoring.max_quarantined "
            f"({config.scoring.max_quarantined:g}) tolerates; raise it, or mend the "
            f"rows in {workspace.store.url(prefix + 'quarantine')}; most often: "
            + "; ".join(f"{reason} ({count})" for reason, count in top)
        )
    return scored, quarantined


def _check_shards(
    workspace: Workspace, prefix: str, shards: Sequence[Shard], config: Config
) -> tuple[int, int, list[str], Counter[str]]:
    scored = quarantined = 0
    wrong: list[str] = []
    reasons = Counter[str]()
    for shard in shards:
        listed = shard_ids(shard, config.pool, config.storage)
        good = workspace.read_table(score_key(prefix, shard.shard), ["id"])["id"].to_pylist()
        bad: list[str] = []
        if workspace.exists(quarantine_key(prefix, shard.shard)):
            table = workspace.read_table(quarantine_key(prefix, shard.shard), ["id", "reason"])
            bad = table["id"].to_pylist()
            reasons.update(reason.partition(":")[0] for reason in table["reason"].to_pylist())
        if sorted(listed) != sorted([*good, *bad]):
            wrong.append(
                f"{shard.uri}#{shard.row_group}: {len(listed)} listed, {len(good)} + {len(bad)} found"
            )
        scored += len(good)
        quarantined += len(bad)
    return scored, quarantined, wrong, reasons
