"""Features of image sets, computed once for each network."""

from __future__ import annotations

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
from pipeline.config.sections import Model, Storage
from pipeline.errors import ArtefactDamaged, ConfigError, PoolError
from pipeline.store.opening import open_store
from pipeline.studies.image_sets.roles import NetworkStudy, Sets
from pipeline.studies.image_sets.sets import MAX_PIXELS, ChosenSet, open_set
from pipeline.studies.lab.cells import Bench, Cell, Lab, compute
from pipeline.studies.lab.checkpoints import Checkpoint
from pipeline.studies.lab.networks import Precision, embed, load
from pipeline.studies.sections import Data, ImageSet
from pipeline.workspace.artefacts import Workspace

FEATURES = "features.safetensors"


@dataclass(frozen=True)
class FeatureFolders:
    """Folders of features by role, for one network."""

    checkpoint: Checkpoint
    folders: Mapping[str, str]


@dataclass(frozen=True)
class EmbedHints:
    """Images, model and network of an embedding."""

    images: ImageSet
    data: Data
    model: Model
    checkpoint: Checkpoint
    role: str


def features(
    config: NetworkStudy,
    sets: Sets,
    checkpoints: Sequence[Checkpoint],
    *,
    lab: Lab,
    precision: Precision = "fp32",
) -> list[FeatureFolders]:
    """Embed every set with every network, unless done before."""
    cells = {
        (checkpoint, role): Cell(
            name=f"features/{checkpoint.name}/{role}/{precision}",
            spec={
                # Features of `fit` depend on the `labeled` list too: only images that trained the network count.
                "network": checkpoint.identity() if role == "fit" else {"weights": checkpoint.digest},
                "images": sets.digests[role],
                "taxonomy": list(sets.taxonomy),
                "model": config.model.model_dump(mode="json"),
                "precision": precision,
                "threads": config.compute.threads,
            },
            work=_embed,
            hints=EmbedHints(wanted, sets.data, config.model, checkpoint, role),
        )
        for checkpoint in checkpoints
        for role, wanted in sets.wanted.items()
    }
    lab.voice.say(
        f"{len(cells)} times features: {len(checkpoints)} networks, {len(sets.wanted)} sets, {precision}"
    )
    compute(list(cells.values()), lab)
    return [
        FeatureFolders(checkpoint, {role: cells[checkpoint, role].folder for role in sets.wanted})
        for checkpoint in checkpoints
    ]


def _embed(cell: Cell[EmbedHints], bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    model, checkpoint = cell.hints.model, cell.hints.checkpoint
    images = open_set(cell.hints.images, cell.hints.data, bench.storage)
    taxonomy = cell.spec["taxonomy"]
    if cell.hints.role == "fit" and checkpoint.labeled:
        images = _labeled_part(images, checkpoint, bench.storage)
    weights = open_store(checkpoint.uri, bench.storage).get("")
    net = load(model, len(taxonomy), weights, device=bench.device)
    began = time.perf_counter()
    found = embed(
        net,
        images.pixels(model.transform(MAX_PIXELS)),
        model,
        layers=model.layers,
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
    """Read the stored features and labels of a set.

    Labels are (n,) int64, -1 for no class of the taxonomy.

    Raises:
        ArtefactDamaged: the file cannot be read.
    """
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


def facts_of(sets: Sets, embedded: Sequence[FeatureFolders], workspace: Workspace) -> dict[str, str]:
    """Return facts about images and networks for the report."""
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
