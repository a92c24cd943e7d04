"""Looks into objects of the pool, on workers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.pool.inventory.found import Surveyed
from pipeline.pool.shards import Unit, survey
from pipeline.pool.source import PoolSource
from pipeline.types import Listed

_SIDE_BY_SIDE = 8  # tars


@dataclass(frozen=True)
class Found:
    """The results of a survey task.

    For each shard, what it lists and the digest of its ids; the places of wanted ids; and what is no shard. A mistake
    of the user's is a result too, since Ray would print a traceback for it.
    """

    shards: list[tuple[tuple[Listed, ...], str]] = field(default_factory=list)
    wanted: list[tuple[str, int, int]] = field(default_factory=list)  # id, shard among these, row
    aside: Surveyed = field(default_factory=Surveyed)  # without groups
    mistake: UserError | None = None


def survey_units(
    together: Sequence[Unit], wanted: pa.StringArray, source: PoolSource
) -> tuple[Found, NDArray[np.uint64]]:
    """Look into objects, on a worker.

    Returns what was found, and a hash of every id, in order.
    """
    try:
        return _looked_into(together, wanted, source)
    except UserError as error:
        return Found(mistake=error), np.empty(0, np.uint64)


def _looked_into(
    together: Sequence[Unit], wanted: pa.StringArray, source: PoolSource
) -> tuple[Found, NDArray[np.uint64]]:
    seen = Found()
    hashes = [np.empty(0, np.uint64)]
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="survey") as threads:
        # A tar's headers arrive one after another: read tars side by side. The ids of many Parquet files take too much.
        side_by_side = all(unit.form != "parquet" for unit in together)
        for found in (threads.map if side_by_side else map)(lambda unit: survey(unit, source), together):
            for group in found.groups:
                if len(wanted):
                    rows = np.flatnonzero(
                        pc.is_in(group.ids, value_set=wanted).to_numpy(zero_copy_only=False)
                    )
                    seen.wanted.extend(
                        (group.ids[int(row)].as_py(), len(seen.shards), int(row)) for row in rows
                    )
                seen.shards.append((group.listed, group.digest))
                hashes.append(pd.util.hash_array(group.ids.to_numpy(zero_copy_only=False), categorize=False))
            seen.aside.lost.extend(found.lost)
            seen.aside.left.update(found.left)
            seen.aside.notes.update(found.notes)
    return seen, np.concatenate(hashes)
