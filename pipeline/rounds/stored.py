"""A round that is stored: its network, bank, detector, rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

import sisom
from pipeline.config.project import Config
from pipeline.model.detector import Fitted, fit
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.pool.lookup import pixels_of
from pipeline.pool.snapshot import Snapshot
from pipeline.score.broadcast import BankFile
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import of_round
from pipeline.workspace.keys import round_key


@dataclass(frozen=True)
class _Round:
    """A committed round, read as needed."""

    workspace: Workspace
    config: Config
    index: int

    @classmethod
    def open(cls, config: Config, index: int | None) -> _Round:
        workspace = open_workspace(config)
        workspace.check(config)
        chosen = workspace.committed_round(index)
        return cls(workspace, of_round(workspace, config, chosen), chosen)

    def key(self, name: str) -> str:
        return round_key(self.index, name)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.workspace.read_json(self.key(keys.PLAN))
        return found

    @cached_property
    def bank(self) -> sisom.FeatureBank:
        return stored_bank(self.workspace, self.index)

    @cached_property
    def network(self) -> Network:
        return stored_network(self.workspace, self.index, self.config)

    @cached_property
    def extract(self) -> Extractor:
        torch.set_num_threads(self.config.resources.threads)
        return Extractor(self.network, "cpu", self.config.scoring.batch_size, self.bank.layers)

    @cached_property
    def scorer(self) -> Scorer:
        config = self.config
        members = range(1, config.query.networks)
        return Scorer(
            self.network,
            self.bank,
            ScoringOptions.of(config, "cpu", seed=self.plan["seed"]),
            detector=stored_detector(self.workspace, self.index, self.network, config),
            members=[stored_network(self.workspace, self.index, config, member) for member in members],
        )

    def rows(self, folder: str, name: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of an id in the score files or in quarantine."""
        for part in self.parts(folder, columns):
            yield from part.filter(pc.equal(part["id"], name)).to_pylist()

    def parts(self, folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for key in self.workspace.keys(self.key(folder)):
            yield from self.workspace.row_groups(key, None if columns is None else list(columns))

    def pixels(self, wanted: Mapping[int, Sequence[str]]) -> Iterator[tuple[str, Any]]:
        """(id, pixels or the reason why there are none) of ids in shards."""
        return pixels_of(Snapshot.read(Folder.of_round(self.workspace, self.index)), wanted, self.config)


def stored_network(workspace: Workspace, index: int, config: Config, member: int = 0) -> Network:
    """The network of a round, as a value that workers can share; or another member of its committee."""
    weights = workspace.store.get(round_key(index, keys.weights_key(member)))
    return Network(
        config.model, len(of_round(workspace, config, index).taxonomy), np.frombuffer(weights, np.uint8)
    )


def stored_bank(workspace: Workspace, index: int) -> sisom.FeatureBank:
    """The bank of a round."""
    return sisom.FeatureBank.from_bytes(workspace.store.get(round_key(index, keys.BANK)))


def bank_file(workspace: Workspace, index: int) -> BankFile:
    """Where the bank of a round lies, for workers that map it."""
    key = round_key(index, keys.BANK)
    return BankFile(workspace, key, workspace.digest(key))


def keep_features(workspace: Workspace, index: int, features: sisom.Features, targets: Tensor) -> None:
    """Store what a detector is fitted to, as safetensors: the saliencies of each layer under its place and name."""
    dims = [dim for _, dim in features.layer_dims]
    layers = zip(features.layer_dims, torch.split(features.saliency, dims, dim=1), strict=True)
    tensors = {f"saliency/{place:03d}/{name}": part for place, ((name, _), part) in enumerate(layers)}
    tensors |= {"penultimate": features.penultimate, "logits": features.logits, "targets": targets}
    data = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    workspace.store.put(round_key(index, keys.LABELED_FEATURES), data)


def stored_detector(workspace: Workspace, index: int, network: Network, config: Config) -> Fitted | None:
    """The detector of a round, fitted again; None where the bank's own score was asked for."""
    if config.scoring.from_bank:
        return None
    found = load_tensors(workspace.store.get(round_key(index, keys.LABELED_FEATURES)))
    layers = [(key.split("/", 2)[2], found[key]) for key in sorted(found) if key.startswith("saliency/")]
    features = sisom.Features(
        torch.cat([part for _, part in layers], dim=1),
        tuple((name, part.shape[1]) for name, part in layers),
        found["penultimate"],
        found["logits"],
    )
    return fit(config, network.build("cpu"), features, found["targets"])
