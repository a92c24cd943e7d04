"""A stored round: artefacts as values, each read when asked for."""

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
from pipeline.errors import UserError
from pipeline.model.detector import FittedDetector, fit
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.pool.lookup import pixels_of
from pipeline.pool.snapshot import Snapshot
from pipeline.score.broadcast import BankFile, Models
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import as_planned
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.plan import Plan
from pipeline.workspace.records import FarFilter, ModelRecord, SlopeSearch


@dataclass(frozen=True)
class StoredRound:
    """A round of a workspace, planned at least.

    Args:
        workspace: which holds it.
        index: of the round.
        current: the project's config as it is now.
    """

    workspace: Workspace
    index: int
    current: Config

    @classmethod
    def open(cls, config: Config, index: int | None) -> StoredRound:
        """Open a committed round; None stands for the last one.

        Raises:
            UserError: there is no such round, or the workspace is another project's.
        """
        workspace = open_workspace(config)
        workspace.check(config)
        return cls(workspace, workspace.committed_round(index), config)

    @property
    def folder(self) -> Folder:
        """The folder of the artefacts."""
        return Folder.of_round(self.workspace, self.index)

    @cached_property
    def plan(self) -> Plan:
        """The frozen inputs."""
        return Plan.read(self.folder)

    @cached_property
    def config(self) -> Config:
        """The config as the round has it."""
        return as_planned(self.current, self.plan)

    @cached_property
    def metrics(self) -> Metrics:
        """The results in numbers."""
        return Metrics.read(self.folder)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The frozen listing of the pool."""
        return Snapshot.read(self.folder)

    @property
    def asked(self) -> list[str]:
        """The ids that its query asks about, most wanted first."""
        ids: list[str] = self.folder.read_table(keys.QUERY, ["id"])["id"].to_pylist()
        return ids

    @property
    def slopes(self) -> Mapping[str, float]:
        """The steepness of each layer's sigmoid."""
        return SlopeSearch.read(self.folder).slopes

    @property
    def far_from(self) -> float | None:
        """The energy at which strange rows begin to be far, if known."""
        return FarFilter.read(self.folder).far_from

    # ------------------------------------------------------------------------------------- what it scores with

    @cached_property
    def network(self) -> Network:
        """The trained classifier."""
        return self.member(0)

    def member(self, number: int) -> Network:
        """Return a network of the committee; 0 is the round's own."""
        weights = self.folder.get(keys.weights_key(number))
        return Network(self.config.model, len(self.config.taxonomy), np.frombuffer(weights, np.uint8))

    def members(self) -> Iterator[Network]:
        """Read the other networks of the committee, one at a time."""
        return (self.member(number) for number in range(1, self.config.query.networks))

    @cached_property
    def bank(self) -> sisom.FeatureBank:
        """The bank, with its threshold."""
        return sisom.FeatureBank.from_bytes(self.folder.get(keys.BANK))

    @property
    def bank_file(self) -> BankFile:
        """The bank as a file, for workers that map it."""
        return BankFile(self.workspace, self.folder.key(keys.BANK), self.folder.digest(keys.BANK))

    @cached_property
    def detector(self) -> FittedDetector | None:
        """The detector, fitted again; None if the bank's own scores judge."""
        return stored_detector(self.folder, self.network, self.config)

    def models(self) -> Models:
        """Return all that scores a pool."""
        return Models(self.network, self.bank, self.bank_file, self.detector, self.members())

    @cached_property
    def extractor(self) -> Extractor:
        """The network on this machine's processor, to embed images with."""
        return Extractor(self.network, "cpu", self.config.scoring.batch_size, layers=self.bank.layers)

    @cached_property
    def scorer(self) -> Scorer:
        """The round's scoring on this machine's processor."""
        options = ScoringOptions.of(self.config, "cpu", seed=self.plan.seed)
        members = list(self.members())
        return Scorer(self.network, self.bank, options, detector=self.detector, members=members)

    # ----------------------------------------------------------------------------------------- rows of its pool

    @cached_property
    def fitted_ids(self) -> list[str]:
        """Ids of the rows that the bank was fitted on, in order."""
        ids = self.folder.read_table(keys.LABELED, ["id"])["id"].to_pylist()
        unreadable = {row.id for row in ModelRecord.read(self.folder).unreadable}
        return sorted(name for name in ids if name not in unreadable)

    def row(self, files: str, name: str) -> dict[str, Any] | None:
        """Return an id's row in score files or quarantine, if any."""
        for part in self.parts(files):
            for row in part.filter(pc.equal(part["id"], name)).to_pylist():
                return dict(row)
        return None

    def parts(self, files: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read score files or quarantine, one row group at a time."""
        for name in self.folder.names(files):
            yield from self.folder.row_groups(name, None if columns is None else list(columns))

    def pixels(self, wanted: Mapping[int, Sequence[str]]) -> Iterator[tuple[str, Any]]:
        """Read images by id: (id, pixels or why there are none)."""
        return pixels_of(self.snapshot, wanted, self.config)


def keep_features(folder: Folder, features: sisom.Features, targets: Tensor) -> None:
    """Store the features that a detector is fitted to.

    As safetensors: the saliencies of each layer under its place and name.
    """
    dims = [dim for _, dim in features.layer_dims]
    layers = zip(features.layer_dims, torch.split(features.saliency, dims, dim=1), strict=True)
    tensors = {f"saliency/{place:03d}/{name}": part for place, ((name, _), part) in enumerate(layers)}
    tensors |= {"penultimate": features.penultimate, "logits": features.logits, "targets": targets}
    data = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    folder.put(keys.LABELED_FEATURES, data)


def stored_detector(folder: Folder, network: Network, config: Config) -> FittedDetector | None:
    """Fit a round's detector again; None if the bank's own scores judge."""
    if config.scoring.from_bank:
        return None
    if not folder.exists(keys.LABELED_FEATURES):
        raise UserError(
            f"{folder.url(keys.LABELED_FEATURES)} is not there, as after `sisom labels withdraw`, and this round "
            "scores nothing without it; go on with a later round"
        )
    tensors = load_tensors(folder.get(keys.LABELED_FEATURES))
    layers = [(key.split("/", 2)[2], tensors[key]) for key in sorted(tensors) if key.startswith("saliency/")]
    features = sisom.Features(
        torch.cat([part for _, part in layers], dim=1),
        tuple((name, part.shape[1]) for name, part in layers),
        tensors["penultimate"],
        tensors["logits"],
    )
    return fit(config, network.build("cpu"), features, targets=tensors["targets"])
