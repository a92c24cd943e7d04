"""The active-learning study: strategies x seeds x rounds.

It starts from a fully labeled set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.model.weights import Start, new_network
from pipeline.store.opening import open_store
from pipeline.studies.active.blocks import blocks
from pipeline.studies.active.chain import ChainHints, chain, first_round
from pipeline.studies.active.config import ActiveStudy
from pipeline.studies.active.curves import Curve, tables
from pipeline.studies.active.images import StudyImages
from pipeline.studies.active.open_set import FAR, known_at_first
from pipeline.studies.image_sets.sets import MAX_PIXELS, open_set
from pipeline.studies.lab.cells import RULES, Cell, Lab, compute
from pipeline.studies.outcome import CellRecord, Outcome, seconds_table


def run(config: ActiveStudy, lab: Lab) -> Outcome:
    """Run the study: compute the missing cells and collect all results."""
    images, digests = prepared(config)
    new_network(config.model, len(images.classes), seed=0, dropout=config.train.dropout, start=images.start)
    common = {
        "rules": RULES,
        "images": digests,
        "initial": config.initial,
        "model": config.model.model_dump(mode="json", exclude={"layers"}),
        "train": config.train.model_dump(mode="json"),
        "start": None if images.start is None else hashlib.sha256(images.start.weights).hexdigest(),
        "open_set": None
        if config.open_set is None
        else config.open_set.model_dump(mode="json", exclude={"far"}),
        "threads": config.compute.threads,
        "batch_size": config.compute.batch_size,
    }
    starts = {
        seed: Cell(f"initial/seed-{seed}", {**common, "seed": seed}, first_round, config)
        for seed in config.seeds
    }
    lab.voice.say(f"{len(images.ids):,} images in the pool; {len(starts)} initial networks")
    compute(list(starts.values()), lab, shared=images)
    cells = [
        _chain({**common, "seed": seed}, ChainHints(config, choice, starts[seed].folder))
        for seed in config.seeds
        for choice in config.strategies
    ]
    lab.voice.say(f"{len(cells)} chains of {config.rounds} rounds")
    results = compute(cells, lab, shared=images)
    curves = [
        Curve(cell.hints.strategy.label, cell.spec["seed"], tuple(result["rounds"]))
        for cell, result in zip(cells, results, strict=True)
    ]
    seconds = seconds_table(results)
    return Outcome(
        facts=_facts(config, images),
        tables=tables(curves, config.targets),
        seconds=seconds,
        blocks=blocks(curves, seconds, config),
        records=[
            CellRecord(
                cell.name,
                {"strategy": cell.spec["strategy"], "seed": cell.spec["seed"], **cell.spec["options"]},
                {f"accuracy/{line['labeled']}": line["accuracy"] for line in result["rounds"]}
                | {"final_accuracy": result["rounds"][-1]["accuracy"]},
            )
            for cell, result in zip(cells, results, strict=True)
        ],
    )


def _chain(common: Mapping[str, Any], hints: ChainHints) -> Cell[ChainHints]:
    config, choice = hints.config, hints.strategy
    spec = {
        **common,
        "strategy": choice.name,
        "options": choice.options,
        "filter": choice.filter,
        "query": config.query,
        "rounds": config.rounds,
        "layers": list(config.model.layers),
        "space": config.space.model_dump(mode="json"),
        "committee": config.committee.model_dump(mode="json"),
    }
    return Cell(f"chains/{choice.label}/seed-{spec['seed']}", spec, chain, hints)


def prepared(config: ActiveStudy) -> tuple[StudyImages, dict[str, str]]:
    """Return all images, decoded, and the digests of their sets.

    Raises:
        ConfigError: sets that do not fit together, or more labels asked for than there are images.
    """
    pool = open_set(config.pool, config.data, config.storage)
    test = open_set(config.test, config.data, config.storage)
    strange = [name for name in test.order if name not in pool.order]
    if strange:
        raise ConfigError(f"test: {test.name} has class {strange[0]!r}, which the pool has not")
    far = config.open_set.far if config.open_set is not None else ()
    outside = [open_set(each, config.data, config.storage) for each in far]
    first = known_at_first(len(pool.order), config.open_set)
    known = sum(name in pool.order[:first] for name in pool.classes)
    if config.initial > known:
        raise ConfigError(f"initial: {config.initial} images, but {known} are of a known class")
    total = len(pool) + sum(map(len, outside))
    wanted = config.initial + config.query * (config.rounds - 1)
    if wanted > total:
        raise ConfigError(f"rounds: {config.rounds} of them label {wanted} images, the pool has {total}")
    transform = config.model.transform(MAX_PIXELS)
    ids = [*pool.ids, *(name for each in outside for name in each.ids)]
    if len(set(ids)) < len(ids):
        raise ConfigError("open_set.far: ids that the pool has too; give the images a set of their own")
    images = StudyImages(
        ids=tuple(ids),
        pixels=np.concatenate([pool.decoded(transform), *(each.decoded(transform) for each in outside)]),
        truth=np.concatenate(
            [pool.labels(pool.order), *(np.full(len(each), FAR, np.int64) for each in outside)]
        ),
        test_pixels=test.decoded(transform),
        test_truth=test.labels(pool.order),
        classes=pool.order,
        start=_start(config),
    )
    digests = {"pool": pool.digest, "test": test.digest}
    return images, digests | {f"far/{each.name}": each.digest for each in outside}


def _start(config: ActiveStudy) -> Start | None:
    """Read the weights of a self-supervised start."""
    if config.start is None:
        return None
    return Start(open_store(config.start, config.storage).get(""), "backbone")


def _facts(config: ActiveStudy, images: StudyImages) -> dict[str, str]:
    facts = {
        "pool": f"{config.pool.name} {config.pool.split}, {int((images.truth >= 0).sum()):,} images "
        f"of {len(images.classes)} classes",
        "test": f"{config.test.name} {config.test.split}, {len(images.test_truth):,} images",
        "labels": f"{config.initial} at first, {config.query} more in each of {config.rounds - 1} rounds",
        "network": f"{config.model.name}, {config.train.epochs} epochs, trained afresh in each round",
        "seeds": ", ".join(map(str, config.seeds)),
    }
    if config.open_set is not None:
        facts["known at first"] = f"{known_at_first(len(images.classes), config.open_set)} classes"
        facts["of another world"] = f"{int((images.truth == FAR).sum()):,} images of the pool"
    return facts
