"""The memory of a node while a pool is scored.

It decides how much may be in flight, and how many actors and readers may work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch

import sisom
from pipeline.cluster.layout import GROWTH, Cluster
from pipeline.config.project import Config
from pipeline.config.sections import Model
from pipeline.errors import ConfigError, SystemFault
from sisom.network.models import build_model

MIB: Final = 1 << 20
DRIVER: Final = 600 * MIB  # the process that everything is started from, and that rows of scores pass through
ACTOR_BASE: Final = 600 * MIB  # a process that has imported torch and the engine
READER_BASE: Final = 250 * MIB
PIXEL_BYTES: Final = 9  # that decoding takes for each pixel of the largest image
ENCODED: Final = (8 * MIB, 64 * MIB)  # least and most bytes of encoded images that a reader holds
TILE: Final = 32  # images that pass a network at a time
TILES: Final = 2  # times `encoded`: what an actor has for its distances
LEAST_IN_FLIGHT: Final = 64 * MIB
POINT_WORDS: Final = 10  # of a point of the bank, beside its features


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes and counts that scoring keeps to.

    Each is of one node unless it says otherwise. Nodes that come while a pool is scored are laid out in the same way,
    up to `GROWTH` times as many.
    """

    total: int
    nodes: int
    actors: int  # of the whole cluster, to begin with
    most_actors: int  # of the whole cluster, whatever it grows to
    actors_a_node: int  # of the node with most of them
    actor: int
    actor_cpus: float  # that an actor asks Ray for, so that no more of them share a node
    readers_a_node: int  # plus one spare: a reader that hangs keeps its slot
    reader: int
    giant: int  # of a reader, while it decodes the largest image that is allowed
    reader_memory: int  # that a reader asks Ray for, so that no more of them share a node
    encoded: int  # of a reader, encoded images at a time
    tiles: int  # of an actor, for its distances
    block_bytes: int  # of a batch of pixels, the unit that moves between processes
    in_flight: int  # in the object store, all blocks together
    store_share: float  # of the object store: `in_flight` as a share of it
    shared: int  # weights and bank

    @property
    def used(self) -> int:
        """Bytes of the fullest node, where the driver is."""
        readers = (self.readers_a_node + 1) * self.reader + self.readers_a_node * self.giant
        return self.actors_a_node * self.actor + readers + self.in_flight + self.shared + DRIVER

    @property
    def most_readers(self) -> int:
        """Readers of the whole cluster, whatever it grows to."""
        return GROWTH * self.nodes * (self.readers_a_node + 1)

    def told(self) -> str:
        """Return the plan in a line."""
        return f"memory: {_size(self.used)} of {_size(self.total)} a node: {self.parts()}"

    def parts(self) -> str:
        """Return how much of a node each part takes, as text."""
        readers = self.readers_a_node
        return (
            f"{self.actors_a_node} actors x {_size(self.actor)}, {readers} + 1 readers x {_size(self.reader)}, "
            f"{readers} giant images x {_size(self.giant)}, {_size(self.in_flight)} in flight in blocks of "
            f"{_size(self.block_bytes)}, {_size(self.shared)} shared, {_size(DRIVER)} of the driver"
        )


def plan_memory(
    config: Config, cluster: Cluster, *, rows: int, bank_bytes: int, weight_bytes: int
) -> MemoryPlan:
    """Divide the memory of a node among the parts of scoring.

    It is `resources.memory`, or what Ray says that the smallest node has. Where it is short, readers and distances hold
    less at a time, then fewer readers work, then fewer actors.

    Args:
        config: batch size, image sizes, model and `resources`.
        cluster: what the work runs on.
        rows: images to score; a small pool needs few actors.
        bank_bytes: of the bank.
        weight_bytes: of the network, or of all that score together.

    Raises:
        ConfigError: not even one actor and one reader fit.
        SystemFault: the same, if `resources.memory` is not set: a later try may find more memory free.
    """
    total = int(config.resources.memory or cluster.node_memory)
    batch, net = config.scoring.batch_size, measured(config.model, len(config.taxonomy))
    pixels = batch * 3 * config.model.image_size**2
    # On a GPU the layers' outputs lie in the device's memory, which is another budget.
    moves = config.scoring.moves_images
    passes = 0 if cluster.device == "cuda" else net.activations * (TILE if moves else min(TILE, batch))
    wanted = -(-rows // (4 * batch))
    most = max(cluster.min_actors, min(config.resources.actors or wanted, wanted))
    fits = min(cluster.full, most)  # actors on the fullest node, unless its memory is short

    def plan(a_node: int, readers: int, encoded: int) -> MemoryPlan:
        in_flight = max(LEAST_IN_FLIGHT, 4 * pixels * (a_node + readers))
        return MemoryPlan(
            total=total,
            nodes=cluster.nodes,
            actors=max(cluster.min_actors, min(cluster.max_actors, most, cluster.nodes * a_node)),
            most_actors=most,
            actors_a_node=a_node,
            actor=ACTOR_BASE + 2 * weight_bytes + (13 if moves else 5) * pixels + TILES * encoded + passes,
            actor_cpus=round(cluster.actor_cpus * (1 if a_node == fits else cluster.full / a_node), 4),
            readers_a_node=readers,
            reader=READER_BASE + 2 * encoded + 3 * pixels,
            giant=PIXEL_BYTES * config.scoring.max_pixels,
            reader_memory=cluster.node_memory // (readers + 1),
            encoded=encoded,
            tiles=TILES * encoded,
            block_bytes=pixels,
            in_flight=in_flight,
            store_share=min(0.5, in_flight / max(cluster.object_store, 1)),
            shared=bank_bytes + weight_bytes,
        )

    readers = max(1, -(-cluster.max_readers // cluster.nodes))
    layout = plan(fits, readers if cluster.device == "cuda" else min(readers, 2 * fits), ENCODED[1])
    while layout.used > total:
        if layout.encoded > ENCODED[0]:
            layout = plan(layout.actors_a_node, layout.readers_a_node, layout.encoded // 2)
        elif layout.readers_a_node > 1:
            layout = plan(layout.actors_a_node, layout.readers_a_node - 1, layout.encoded)
        elif layout.actors_a_node > -(-cluster.min_actors // cluster.nodes):
            layout = plan(layout.actors_a_node - 1, 1, layout.encoded)
        else:
            least = (
                f"{_size(total)} a node are too little; the least that would do is {-(-layout.used // MIB)}MiB: "
                f"{layout.parts()}; a smaller scoring.batch_size or scoring.max_pixels takes less"
            )
            if config.resources.memory is None:  # what Ray found when it started, beside all that ran then
                raise SystemFault(
                    f"memory: {least}; try again when other programs hold less, or set resources.memory"
                )
            raise ConfigError(f"resources.memory: {least}")
    return layout


def foresee(config: Config, cluster: Cluster, *, rows: int, labeled: int) -> MemoryPlan:
    """Plan the memory before anything is trained.

    The bank will be as large as that of `labeled` images.

    Raises:
        ConfigError: not even one actor and one reader fit.
    """
    net = measured(config.model, len(config.taxonomy))
    points = -(-labeled * config.bank.subset // 1)
    return plan_memory(
        config,
        cluster,
        rows=rows,
        bank_bytes=int(points) * 4 * (net.columns + POINT_WORDS),
        weight_bytes=net.weights * config.query.networks,
    )


@dataclass(frozen=True)
class Measured:
    """The sizes of a network."""

    weights: int  # bytes
    activations: int  # bytes of all layers' outputs for one image, twice: values and gradients
    columns: int  # of its saliencies
    last: int  # of its logits and penultimate features


@lru_cache(maxsize=8)
def measured(model: Model, classes: int) -> Measured:
    """Build a network and measure it."""
    net = build_model(model.name, classes, seed=0).eval().requires_grad_(False)
    count = 0

    def add(_module: torch.nn.Module, _args: object, output: object) -> None:
        nonlocal count
        if isinstance(output, torch.Tensor):
            count += output.numel()

    image = torch.zeros(1, 3, model.image_size, model.image_size)
    handles = [module.register_forward_hook(add) for module in net.modules() if not list(module.children())]
    with torch.no_grad():
        net(image)
    for handle in handles:
        handle.remove()
    features = sisom.extract(net, image, model.layers, tile=1)
    weights = sum(value.numel() * value.element_size() for value in net.state_dict().values())
    last = features.logits.shape[1] + features.penultimate.shape[1]
    return Measured(weights, count * 4 * 2, features.saliency.shape[1], last)


def _size(count: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.{1 if power == 30 else 0}f} {unit}"
    return f"{count / 1024:.0f} KiB"
