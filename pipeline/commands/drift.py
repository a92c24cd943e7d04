"""Has the pool changed since a round? How much of it is new, and whether the new images score like the old ones.

Without Ray: a bounded sample of the new images is scored here, with the network and the bank of the round.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.project import Config
from pipeline.pool.pieces import Failure, Reading
from pipeline.pool.shards import Form, Unit, pieces, survey, units
from pipeline.pool.snapshot import Changes, listed_objects
from pipeline.types import Listed, Shard
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import of_round
from pipeline.workspace.keys import round_key

OBJECTS = 16  # new tables or archives that a sample is taken from
OLD = 8  # row groups of old scores that it is compared with
HANG_S = 60.0  # that an image may take to decode
FEWEST = 20  # new images below which a test says nothing


@dataclass(frozen=True)
class Growth:
    """New objects as a share of those that the round listed, and some of them: forms and entries."""

    share: float
    sample: tuple[tuple[Form, Listed], ...]


def growth(workspace: Workspace, config: Config, last: int) -> Growth:
    """What lies in the pool and was not there when round `last` listed it; streamed, footers are not read."""
    changes = Changes(listed_objects(Folder.of_round(workspace, last)))
    seen = 0

    def fresh() -> Iterator[tuple[str, Form, Listed]]:
        nonlocal seen
        for unit in units(config.pool, config.storage):
            if unit.form == "other":
                continue
            for item in unit.objects:
                before = changes.new
                changes.see(item.uri, item.etag)
                seen += 1
                if changes.new > before:
                    yield _draw(item.uri), unit.form, item

    # Which ones are looked at depends on their names alone, so that a tick says the same when it is run again.
    sample = heapq.nsmallest(config.tick.drift_images, fresh(), key=lambda drawn: drawn[0])
    return Growth(changes.new / max(1, seen - changes.new), tuple((form, item) for _, form, item in sample))


def drift(workspace: Workspace, config: Config, last: int, found: Growth) -> tuple[float, int] | None:
    """The two-sample Kolmogorov-Smirnov test of the new images' scores against those of round `last`.

    Returns:
        The p-value and the number of new images; None with too few of them.
    """
    if not found.sample:
        return None
    images = list(_images(config, found))
    if len(images) < FEWEST:
        return None
    new = _scored(workspace, of_round(workspace, config, last), last, images)
    if len(new) < FEWEST:
        return None
    from scipy.stats import ks_2samp

    return float(ks_2samp(new, _old_scores(workspace, config, last)).pvalue), len(new)


def _images(config: Config, found: Growth) -> Iterator[bytes]:
    """Up to `tick.drift_images` new images, evenly from the sampled objects."""
    wanted = config.tick.drift_images
    images = tuple(item for form, item in found.sample if form == "image")
    others = [(form, item) for form, item in found.sample if form != "image"][:OBJECTS]
    each = -(-wanted // max(1, len(others) + bool(images)))
    reading = Reading(config.pool, config.storage, config.scoring.max_bytes)
    sources = [Unit(form, (item,)) for form, item in others]
    if images:
        sources.append(Unit("image", images))
    left = wanted
    for unit in sources:
        taken = min(each, left)
        for group in survey(unit, config.pool, config.storage):
            drawn = sorted(enumerate(group.ids.to_pylist()), key=lambda pair: _draw(pair[1]))[:taken]
            for piece in pieces(Shard(0, group.listed), reading, {row for row, _ in drawn}):
                for data in piece.images:
                    if data is not None and not isinstance(data, Failure):
                        taken, left = taken - 1, left - 1
                        yield data
            if taken <= 0:
                break


def _scored(workspace: Workspace, config: Config, last: int, images: list[bytes]) -> NDArray[np.float32]:
    import torch

    from pipeline.images.decode_apart import decode_apart

    # Apart: an image that kills its decoder must not end every tick from now on.
    decoded = decode_apart(images, config.model.transform(config.scoring.max_pixels), timeout_s=HANG_S)
    if not len(decoded.pixels):
        return np.empty(0, np.float32)
    kept = torch.get_num_threads()
    torch.set_num_threads(config.resources.threads)
    try:
        return _judged(workspace, config, last, decoded.pixels)
    finally:
        torch.set_num_threads(kept)


def _judged(
    workspace: Workspace, config: Config, last: int, pixels: NDArray[np.uint8]
) -> NDArray[np.float32]:
    import sisom
    from pipeline.model.extractor import Extractor
    from pipeline.rounds.stored import stored_bank, stored_detector, stored_network

    bank, network = stored_bank(workspace, last), stored_network(workspace, last, config)
    extract = Extractor(network, "cpu", config.scoring.batch_size, bank.layers)
    features = extract(pixels)
    detector = stored_detector(workspace, last, network, config)
    if detector is None:
        found: NDArray[np.float32] = getattr(sisom.score(bank, features), config.scoring.score).numpy()
        return found
    return np.asarray(detector.judge(extract, pixels, features))


def _old_scores(workspace: Workspace, config: Config, last: int) -> NDArray[Any]:
    """The scores of some row groups of a round, evenly from its score files."""
    files = [key for key in workspace.keys(round_key(last, keys.SCORES)) if key.endswith(".parquet")]
    chosen = sorted({round(i * (len(files) - 1) / max(1, OLD - 1)) for i in range(OLD)}) if files else []
    parts = [
        next(workspace.row_groups(files[place], [config.scoring.column]))[config.scoring.column].to_numpy()
        for place in chosen
    ]
    return np.concatenate([*parts, np.empty(0, np.float32)])


def _draw(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
