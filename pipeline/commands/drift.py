"""Drift: the new part of a pool, and how strange it is.

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
from pipeline.pool.source import PoolSource
from pipeline.rounds.stored import StoredRound
from pipeline.score.files import score_files
from pipeline.types import Listed, Shard

OBJECTS = 16  # new tables or archives that a sample is taken from
OLD = 8  # row groups of old scores that it is compared with
HANG_S = 60.0  # that an image may take to decode
FEWEST = 20  # new images below which a test says nothing


@dataclass(frozen=True)
class Growth:
    """New objects as a share of the listed ones, and a sample."""

    share: float
    sample: tuple[tuple[Form, Listed], ...]


def growth(last: StoredRound) -> Growth:
    """Find the objects that came since a round listed the pool."""
    config = last.current
    changes = Changes(listed_objects(last.folder))
    seen = 0

    def fresh() -> Iterator[tuple[str, Form, Listed]]:
        nonlocal seen
        for unit in units(PoolSource.of(config)):
            if not unit.known:
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


def drift(last: StoredRound, grown: Growth) -> tuple[float, int] | None:
    """Compare scores by the two-sample Kolmogorov-Smirnov test.

    Returns:
        The p-value and the number of new images; None with too few of them.
    """
    if not grown.sample:
        return None
    images = list(_images(last.current, grown))
    if len(images) < FEWEST:
        return None
    new = _scored(last, images)
    if len(new) < FEWEST:
        return None
    from scipy.stats import ks_2samp

    return float(ks_2samp(new, _old_scores(last)).pvalue), len(new)


def _images(config: Config, grown: Growth) -> Iterator[bytes]:
    """Read up to `tick.drift_images` new images, evenly from the objects."""
    wanted = config.tick.drift_images
    images = tuple(item for form, item in grown.sample if form == "image")
    others = [(form, item) for form, item in grown.sample if form != "image"][:OBJECTS]
    each = -(-wanted // max(1, len(others) + bool(images)))
    reading = Reading(PoolSource.of(config))
    sources = [Unit(form, (item,)) for form, item in others]
    if images:
        sources.append(Unit("image", images))
    left = wanted
    for unit in sources:
        taken = min(each, left)
        for group in survey(unit, reading.source).groups:
            drawn = sorted(enumerate(group.ids.to_pylist()), key=lambda pair: _draw(pair[1]))[:taken]
            for piece in pieces(Shard(0, group.listed), reading, {row for row, _ in drawn}):
                for data in piece.images:
                    if data is not None and not isinstance(data, Failure):
                        taken, left = taken - 1, left - 1
                        yield data
            if taken <= 0:
                break


def _scored(last: StoredRound, images: list[bytes]) -> NDArray[np.float32]:
    import torch

    from pipeline.images.decode_apart import decode_apart

    config = last.config
    # Apart: an image that kills its decoder must not end every tick from now on.
    decoded = decode_apart(images, config.model.transform(config.scoring.max_pixels), timeout_s=HANG_S)
    if not len(decoded.pixels):
        return np.empty(0, np.float32)
    kept = torch.get_num_threads()
    torch.set_num_threads(config.resources.threads)
    try:
        return _judged(last, decoded.pixels)
    finally:
        torch.set_num_threads(kept)


def _judged(last: StoredRound, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    import sisom

    features = last.extractor(pixels)
    if last.detector is None:
        scores: NDArray[np.float32] = getattr(
            sisom.score(last.bank, features), last.config.scoring.score
        ).numpy()
        return scores
    return np.asarray(last.detector.judge(last.extractor, pixels, features))


def _old_scores(last: StoredRound) -> NDArray[Any]:
    """Read scores of a round, evenly from its score files."""
    files, column = score_files(last.folder), last.config.scoring.column
    chosen = sorted({round(i * (len(files) - 1) / max(1, OLD - 1)) for i in range(OLD)}) if files else []
    parts = [next(last.folder.row_groups(files[place], [column]))[column].to_numpy() for place in chosen]
    return np.concatenate([*parts, np.empty(0, np.float32)])


def _draw(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
