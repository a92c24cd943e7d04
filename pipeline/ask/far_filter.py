"""The filter between novel and far images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.labels.tally import Labels
from pipeline.score.files import each_file
from pipeline.workspace.folder import Folder
from pipeline.workspace.records import FarFilter
from sisom.verdicts import far_filter


def tune_filter(folder: Folder, labels: Labels) -> FarFilter:
    """Tune the filter between novel and far images.

    It is tuned on the energies that this round computed for the answered images.
    """
    status, ids = labels.table["status"], labels.table["id"]
    sides = {
        "far": ids.filter(pc.equal(status, "out-of-world")).combine_chunks(),
        "rest": ids.filter(pc.is_in(status, pa.array(["labeled", "unknown-class"]))).combine_chunks(),
    }
    found: dict[str, list[NDArray[np.float32]]] = {"far": [], "rest": []}
    for part in each_file(_energies, folder, ["id", "energy"], sides["far"], sides["rest"]):
        for side, energies in zip(found, part, strict=True):
            found[side].append(energies)
    far, rest = (np.concatenate([*parts, np.empty(0, np.float32)]) for parts in found.values())
    far_from, youden = far_filter(far, rest)
    return FarFilter(far_from=far_from, far=len(far), rest=len(rest), youden=youden)


def _energies(parts: Iterable[pa.Table], *sides: pa.Array) -> list[NDArray[np.float32]]:
    found: list[list[NDArray[np.float32]]] = [[] for _ in sides]
    for part in parts:
        for ids, energies in zip(sides, found, strict=True):
            energies.append(part.filter(pc.is_in(part["id"], value_set=ids))["energy"].to_numpy())
    return [np.concatenate([*energies, np.empty(0, np.float32)]) for energies in found]
