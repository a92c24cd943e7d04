"""How the memory of a node is shared out while a pool is scored: what may be in flight, and how many may work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from pipeline.config import Config
from pipeline.engine import Cluster
from pipeline.errors import ConfigError
from sisom.distances import BUDGET_BYTES
from sisom.models import build_model

MIB: Final = 1 << 20
ACTOR_BASE: Final = 600 * MIB  # a process that has imported torch and the engine
READER_BASE: Final = 250 * MIB
ENCODED: Final = (8 * MIB, 64 * MIB)  # least and most bytes of encoded images that a reader holds
LEAST_IN_FLIGHT: Final = 64 * MIB


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes and counts that scoring keeps to. `actors` and `readers` are of the whole cluster."""

    total: int  # of a node
    nodes: int
    actors: int
    actor: int
    readers: int
    reader: int
    encoded: int  # of a reader, encoded images at a time
    block_bytes: int  # of a batch of pixels, the unit that moves between processes
    in_flight: int  # in the object store, all blocks together
    shared: int  # weights and bank, once a node

    @property
    def used(self) -> int:
        """Bytes of the fullest node."""
        actors, readers = (-(-count // self.nodes) for count in (self.actors, self.readers))
        return actors * self.actor + readers * self.reader + -(-self.in_flight // self.nodes) + self.shared

    def told(self) -> str:
        """The plan in a line."""
        return (
            f"memory: {_size(self.used)} of {_size(self.total)} a node for {self.actors} actors "
            f"x {_size(self.actor)}, {self.readers} readers x {_size(self.reader)}, {_size(self.in_flight)} in flight "
            f"in blocks of {_size(self.block_bytes)}, {_size(self.shared)} shared"
        )


def plan_memory(
    config: Config, cluster: Cluster, *, rows: int, bank_bytes: int, weight_bytes: int
) -> MemoryPlan:
    """Share out `resources.memory`, or what Ray says that the smallest node has.

    Where it is short, readers hold less at a time, then fewer of them read, then fewer actors score.

    Args:
        config: batch size, image size, model and `resources.memory`.
        cluster: what the work runs on.
        rows: images to score; a small pool needs few actors.
        bank_bytes: of the bank.
        weight_bytes: of the network.

    Raises:
        ConfigError: not even one actor and one reader fit.
    """
    total = int(config.resources.memory or cluster.node_memory)
    batch = config.scoring.batch_size
    pixels = batch * 3 * config.model.image_size**2
    actor = ACTOR_BASE + 2 * weight_bytes + 5 * pixels + BUDGET_BYTES + _activations(config, cluster)
    nodes = max(1, cluster.nodes)
    actors = max(cluster.min_actors, min(cluster.max_actors, -(-rows // (4 * batch))))

    def plan(actors: int, readers: int, encoded: int) -> MemoryPlan:
        in_flight = max(LEAST_IN_FLIGHT, 4 * pixels * (actors + readers))
        reader = READER_BASE + 2 * encoded + 3 * pixels
        shared = bank_bytes + weight_bytes
        return MemoryPlan(total, nodes, actors, actor, readers, reader, encoded, pixels, in_flight, shared)

    readers = cluster.max_readers if cluster.device == "cuda" else min(cluster.max_readers, actors * 2)
    found = plan(actors, max(1, readers), ENCODED[1])
    while found.used > total:
        if found.encoded > ENCODED[0]:
            found = plan(found.actors, found.readers, found.encoded // 2)
        elif found.readers > 1:
            found = plan(found.actors, found.readers - 1, found.encoded)
        elif found.actors > cluster.min_actors:
            found = plan(found.actors - 1, 1, found.encoded)
        else:
            raise ConfigError(
                f"resources.memory: {_size(total)} a node are too little: one actor takes {_size(found.actor)}, one "
                f"reader {_size(found.reader)}, and {_size(found.in_flight + found.shared)} are shared; "
                f"a smaller scoring.batch_size takes less"
            )
    return found


def _activations(config: Config, cluster: Cluster) -> int:
    """Bytes of all layers' outputs for the images of one pass, twice: values and gradients."""
    if cluster.device == "cuda":  # these lie in the device's memory, which is another budget
        return 0
    net = build_model(config.model.name, len(config.taxonomy), seed=0).eval()
    count = 0

    def add(_module: torch.nn.Module, _args: object, output: object) -> None:
        nonlocal count
        if isinstance(output, torch.Tensor):
            count += output.numel()

    handles = [module.register_forward_hook(add) for module in net.modules() if not list(module.children())]
    with torch.no_grad():
        net(torch.empty(1, 3, config.model.image_size, config.model.image_size))
    for handle in handles:
        handle.remove()
    return count * 4 * 2 * min(32, config.scoring.batch_size)


def _size(count: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.{1 if power == 30 else 0}f} {unit}"
    return f"{count / 1024:.0f} KiB"
