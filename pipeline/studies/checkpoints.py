"""The networks that a study looks at, and their features: each (network, set) is embedded once, for all who ask."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import sisom
from pipeline.config import Model, Storage, canonical
from pipeline.engine import Cluster
from pipeline.errors import ArtefactDamaged, ConfigError, PoolError
from pipeline.progress import Voice
from pipeline.storage import open_store
from pipeline.studies.cells import Bench, Cell, compute
from pipeline.studies.data import ChosenSet, open_set
from pipeline.studies.network_config import AblationStudy, OodStudy
from pipeline.studies.networks import Precision, build, embed, fit, load
from pipeline.studies.sections import Data, ImageSet, Training
from pipeline.workspace import Workspace
from sisom.models import save_weights

NetworkStudy = OodStudy | AblationStudy
WEIGHTS, FEATURES = "model.safetensors", "features.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network by name, place and content; `labeled` is where the ids of its training images stand."""

    name: str
    uri: str
    digest: str
    labeled: str | None = None
    labeled_digest: str | None = None

    def identity(self) -> dict[str, Any]:
        """What results follow from."""
        return {"weights": self.digest, "labeled": self.labeled_digest}


@dataclass(frozen=True)
class Sets:
    """All image sets of a study, found before anything is computed."""

    taxonomy: tuple[str, ...]
    wanted: Mapping[str, ImageSet]  # by role: fit, known, near/NAME, far/NAME, ...
    digests: Mapping[str, str]
    sizes: Mapping[str, int]
    data: Data


def find_sets(roles: Mapping[str, ImageSet], data: Data, storage: Storage) -> Sets:
    """Open every set once, so that what is missing is told before anything is trained.

    The taxonomy is that of the set `fit`; each set whose role does not begin with near, far or unknown must keep to it.
    """
    found = {role: open_set(wanted, data, storage) for role, wanted in roles.items()}
    taxonomy = found["fit"].order
    for role, images in found.items():
        strange = [name for name in images.order if name not in taxonomy]
        if strange and role in ("known", "fit"):
            raise ConfigError(
                f"{role}: {images.name} has class {strange[0]!r}, which {found['fit'].name} has not"
            )
        taken = [name for name in images.order if name in taxonomy]
        if taken and role.startswith(("near/", "far/", "unknown")):
            raise ConfigError(
                f"{role}: class {taken[0]!r} of {images.name} is a known one; leave it out with `without`"
            )
    digests = {role: digest_of(images) for role, images in found.items()}
    return Sets(taxonomy, roles, digests, {role: len(images) for role, images in found.items()}, data)


def digest_of(images: ChosenSet) -> str:
    """What a set is: its ids and classes, wherever it lies."""
    return hashlib.sha256(canonical([images.ids, images.classes, images.order])).hexdigest()


# --------------------------------------------------------------------------------------------------- networks


def networks(
    config: NetworkStudy, sets: Sets, bench: Bench, cluster: Cluster, voice: Voice
) -> tuple[Checkpoint, ...]:
    """The given checkpoints, or one trained for each seed.

    Raises:
        ConfigError: a checkpoint that is not there, or of another number of classes.
    """
    if config.train is None:
        return _given(config, len(sets.taxonomy))
    cells = [
        Cell(
            name=f"train/seed-{seed}",
            spec={
                "seed": seed,
                "images": sets.digests["fit"],
                "model": _plain_model(config.model),
                "train": config.train.model_dump(mode="json"),
                "threads": config.compute.threads,
            },
            work=_train,
            hints={"set": config.fit, "data": config.data, "model": config.model, "train": config.train},
        )
        for seed in config.seeds
    ]
    voice.say(f"{len(cells)} networks")
    workspace = bench.open()
    return tuple(
        Checkpoint(
            f"seed-{cell.spec['seed']}", workspace.store.url(f"{cell.folder}/{WEIGHTS}"), done["weights"]
        )
        for cell, done in zip(cells, compute(cells, bench, cluster, voice), strict=True)
    )


def _plain_model(model: Model) -> dict[str, Any]:
    """The parts of the section that a network and its pixels follow from; layers are another matter."""
    return model.model_dump(mode="json", exclude={"layers"})


def _train(cell: Cell, bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    model, training = _hint(cell, "model", Model), _hint(cell, "train", Training)
    images = open_set(_hint(cell, "set", ImageSet), _hint(cell, "data", Data), bench.storage)
    pixels = images.decoded(model.transform(MAX_PIXELS))
    labels, seed = images.labels(images.order), int(cell.spec["seed"])
    began = time.perf_counter()
    net = build(model, len(images.order), seed=seed, dropout=training.dropout).to(bench.device)
    fit(net, pixels, labels, training, model, seed=seed, device=bench.device)
    seconds = time.perf_counter() - began
    weights = save_weights(net)
    bench.open().store.put(f"{cell.folder}/{WEIGHTS}", weights)
    return {"weights": hashlib.sha256(weights).hexdigest(), "seconds": {"train": seconds}}


MAX_PIXELS = 50_000_000


def _hint(cell: Cell, name: str, kind: type[Any]) -> Any:
    found = cell.hints[name]
    assert isinstance(found, kind)
    return found


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
                load(config.model, classes, data, "cpu")
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


# --------------------------------------------------------------------------------------------------- features


@dataclass(frozen=True)
class Embedded:
    """Where the features of each role lie, for one network."""

    checkpoint: Checkpoint
    folders: Mapping[str, str]


def features(
    config: NetworkStudy,
    sets: Sets,
    checkpoints: Sequence[Checkpoint],
    bench: Bench,
    cluster: Cluster,
    voice: Voice,
    *,
    precision: Precision = "fp32",
) -> list[Embedded]:
    """Embed every set with every network, as far as that is not done."""
    cells = {
        (checkpoint, role): Cell(
            name=f"features/{checkpoint.name}/{role}/{precision}",
            spec={
                # Of the training images, only those that this network was trained on.
                "network": checkpoint.identity() if role == "fit" else {"weights": checkpoint.digest},
                "images": sets.digests[role],
                "taxonomy": list(sets.taxonomy),
                "model": config.model.model_dump(mode="json"),
                "precision": precision,
                "threads": config.compute.threads,
            },
            work=_embed,
            hints={
                "set": wanted,
                "data": sets.data,
                "model": config.model,
                "checkpoint": checkpoint,
                "role": role,
            },
        )
        for checkpoint in checkpoints
        for role, wanted in sets.wanted.items()
    }
    voice.say(
        f"{len(cells)} times features: {len(checkpoints)} networks, {len(sets.wanted)} sets, {precision}"
    )
    compute(list(cells.values()), bench, cluster, voice)
    return [
        Embedded(checkpoint, {role: cells[checkpoint, role].folder for role in sets.wanted})
        for checkpoint in checkpoints
    ]


def _embed(cell: Cell, bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    model, checkpoint = _hint(cell, "model", Model), _hint(cell, "checkpoint", Checkpoint)
    images = open_set(_hint(cell, "set", ImageSet), _hint(cell, "data", Data), bench.storage)
    taxonomy = cell.spec["taxonomy"]
    if cell.hints["role"] == "fit" and checkpoint.labeled:
        images = _labeled_part(images, checkpoint, bench.storage)
    weights = open_store(checkpoint.uri, bench.storage).get("")
    net = load(model, len(taxonomy), weights, bench.device)
    began = time.perf_counter()
    found = embed(
        net,
        images.pixels(model.transform(MAX_PIXELS)),
        model,
        model.layers,
        device=bench.device,
        batch_size=bench.compute.batch_size,
        precision=cell.spec["precision"],
    )
    seconds = time.perf_counter() - began
    labels = torch.from_numpy(images.labels(taxonomy))
    tensors = {"saliency": found.saliency, "penultimate": found.penultimate, "logits": found.logits}
    data = save_tensors(
        {name: value.contiguous() for name, value in tensors.items()} | {"labels": labels},
        metadata={"layer_dims": json.dumps(found.layer_dims)},
    )
    bench.open().store.put(f"{cell.folder}/{FEATURES}", data)
    known = labels >= 0
    right = float((found.logits.argmax(1)[known] == labels[known]).double().mean()) if known.any() else None
    return {"images": len(images), "accuracy": right, "seconds": {"embed": seconds}}


def _labeled_part(images: ChosenSet, checkpoint: Checkpoint, storage: Storage) -> ChosenSet:
    assert checkpoint.labeled is not None
    try:
        labeled = set(json.loads(open_store(checkpoint.labeled, storage).get(""))["labeled"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"checkpoints: {checkpoint.labeled} does not list `labeled` ids") from None
    part = images.select(np.asarray([name in labeled for name in images.ids], np.bool_))
    if not len(part):
        raise PoolError(
            f"checkpoints: no image of {images.name} is among the labeled ones of {checkpoint.labeled}"
        )
    return part


def read_features(workspace: Workspace, folder: str) -> tuple[sisom.Features, Tensor]:
    """Features and labels (-1 for no class) of a set, as they were embedded."""
    key = f"{folder}/{FEATURES}"
    data = workspace.store.get(key)
    try:
        length = int.from_bytes(data[:8], "little")
        dims = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["layer_dims"])
        tensors = load_tensors(data)
    except (ValueError, KeyError) as error:
        raise ArtefactDamaged(f"{workspace.store.url(key)} is damaged: {error}") from None
    return (
        sisom.Features(
            tensors["saliency"],
            tuple((str(name), int(dim)) for name, dim in dims),
            tensors["penultimate"],
            tensors["logits"],
        ),
        tensors["labels"],
    )


def roles_of(config: NetworkStudy) -> dict[str, ImageSet]:
    """The image sets of a study by role."""
    roles = {"fit": config.fit, "known": config.known}
    for group, sets in config.groups().items():
        roles |= {f"{group}/{each.name}": each for each in sets}
    return roles


def facts_of(sets: Sets, embedded: Sequence[Embedded], workspace: Workspace) -> dict[str, str]:
    """What a reader of the results should know about images and networks."""
    facts = {
        role.replace(
            "/", ": "
        ): f"{sets.wanted[role].name} {sets.wanted[role].split}, {sets.sizes[role]:,} images"
        for role in sets.wanted
    }
    for place in embedded:
        accuracy = workspace.read_json(f"{place.folders['known']}/result.json")["accuracy"]
        facts[f"network {place.checkpoint.name}"] = f"{100 * accuracy:.2f} % right on known"
    return facts
