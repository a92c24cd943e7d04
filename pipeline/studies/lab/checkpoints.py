"""The networks of a study: given, or trained for each seed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import sisom
from pipeline.config.sections import Model
from pipeline.errors import ConfigError
from pipeline.learn.epoch import Course, ExamplesInMemory
from pipeline.learn.recipe.values import Recipe
from pipeline.model.weights import new_network
from pipeline.store.opening import open_store
from pipeline.studies.image_sets.roles import NetworkStudy, Sets
from pipeline.studies.image_sets.sets import MAX_PIXELS, open_set
from pipeline.studies.lab.cells import RULES, Bench, Cell, Lab, compute
from pipeline.studies.lab.networks import fit, load
from pipeline.studies.sections import Data, ImageSet, Training
from sisom.network.models import save_weights

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network by name, place and content.

    name            in tables
    uri             of its safetensors weights
    digest          SHA-256 of the weights
    labeled         URI of the list of its training images' ids, if there is one
    labeled_digest  SHA-256 of that list
    """

    name: str
    uri: str
    digest: str
    labeled: str | None = None
    labeled_digest: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return the digests that results depend on."""
        return {"weights": self.digest, "labeled": self.labeled_digest}


@dataclass(frozen=True)
class TrainHints:
    """Images, model and options of a training."""

    images: ImageSet
    data: Data
    model: Model
    train: Training


def networks(config: NetworkStudy, sets: Sets, lab: Lab) -> tuple[Checkpoint, ...]:
    """Return the given checkpoints, or one trained for each seed.

    Raises:
        ConfigError: a checkpoint that is not there, or of another number of classes.
    """
    if config.train is None:
        return _given(config, len(sets.taxonomy))
    train = config.train
    cells = [
        Cell(
            name=f"train/seed-{seed}",
            spec={
                "rules": RULES,
                "seed": seed,
                "images": sets.digests["fit"],
                "model": _plain_model(config.model),
                "train": train.model_dump(mode="json"),
                "threads": config.compute.threads,
            },
            work=_train,
            hints=TrainHints(config.fit, config.data, config.model, train),
        )
        for seed in config.seeds
    ]
    lab.voice.say(f"{len(cells)} networks")
    workspace = lab.bench.open()
    return tuple(
        Checkpoint(
            f"seed-{cell.spec['seed']}", workspace.store.url(f"{cell.folder}/{WEIGHTS}"), done["weights"]
        )
        for cell, done in zip(cells, compute(cells, lab), strict=True)
    )


def _plain_model(model: Model) -> dict[str, Any]:
    """Return what a network and its pixels depend on.

    The layers to read do not matter for training.
    """
    return model.model_dump(mode="json", exclude={"layers"})


def _train(cell: Cell[TrainHints], bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    model, training = cell.hints.model, cell.hints.train
    images = open_set(cell.hints.images, cell.hints.data, bench.storage)
    examples = ExamplesInMemory(images.decoded(model.transform(MAX_PIXELS)), images.labels(images.order))
    seed, rows = int(cell.spec["seed"]), np.arange(len(images), dtype=np.int64)
    began = time.perf_counter()
    net = new_network(model, len(images.order), seed=seed, dropout=training.dropout)
    fit(net, Course(examples, rows, model, Recipe.plain(training), seed), device=bench.device)
    seconds = time.perf_counter() - began
    weights = save_weights(net)
    bench.open().store.put(f"{cell.folder}/{WEIGHTS}", weights)
    return {"weights": hashlib.sha256(weights).hexdigest(), "seconds": {"train": seconds}}


def _given(config: NetworkStudy, classes: int) -> tuple[Checkpoint, ...]:
    found: list[Checkpoint] = []
    for uri in config.checkpoints:
        store = open_store(uri, config.storage)
        keys = sorted(e.key for e in store.list() if (e.key or uri).endswith(".safetensors"))
        if not keys:
            raise ConfigError(f"checkpoints: {uri} is no safetensors file and no folder of them")
        for key in keys:
            data = store.get(key)
            name = (
                (key or uri.rstrip("/").rpartition("/")[2])
                .removesuffix(".safetensors")
                .removesuffix("/model")
            )
            try:
                load(config.model, classes, data, device="cpu")
            except sisom.errors.WeightsError as error:
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(
                    f"checkpoints: {store.url(key)} does not fit {config.model.name} with {classes} classes: {reason}"
                ) from None
            beside = f"{key.removesuffix('.safetensors')}.json"
            labeled = beside if key and store.exists(beside) else None
            found.append(
                Checkpoint(
                    name,
                    store.url(key),
                    hashlib.sha256(data).hexdigest(),
                    store.url(labeled) if labeled else None,
                    hashlib.sha256(store.get(labeled)).hexdigest() if labeled else None,
                )
            )
    if len({each.name for each in found}) < len(found):
        found = [
            Checkpoint(f"{i:02d}-{each.name}", each.uri, each.digest, each.labeled, each.labeled_digest)
            for i, each in enumerate(found)
        ]
    return tuple(found)
