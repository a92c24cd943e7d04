"""The steps of an epoch, the same in rounds and studies.

Order, augmentation, learning rate and the masks of dropout follow from (seed, epoch, step) alone. So training that was
cut off goes on to the same weights, and a study trains as a round does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.config.sections import Model
from pipeline.config.training import Augment
from pipeline.learn.recipe.augment import augmented
from pipeline.learn.schedule import learning_rate, steps
from pipeline.model.network import normalise


class Recipe(Protocol):
    """Options of training that rounds and studies share."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def lr(self) -> float: ...  # noqa: D102
    @property
    def momentum(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def augment(self) -> Augment: ...  # noqa: D102


class Examples(Protocol):
    """Labeled images by row."""

    @property
    def targets(self) -> NDArray[np.int64]:
        """(n,) classes."""

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the (len(rows), 3, s, s) uint8 pixels of rows."""


@dataclass(frozen=True)
class ExamplesInMemory:
    """Labeled images as two arrays."""

    pixels: NDArray[np.uint8]  # (n, 3, s, s)
    targets: NDArray[np.int64]  # (n,)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the pixels of rows; see `Examples`."""
        return torch.from_numpy(self.pixels[rows])


@dataclass(frozen=True)
class Exposure:
    """Images of no class that the network learns to be unsure of.

    Their loss is `weight` times the cross-entropy between the uniform distribution and the softmax. Each step draws as
    many of them as it has labeled images.
    """

    pixels: NDArray[np.uint8]  # (n, 3, s, s), n > 0
    weight: float


@dataclass(frozen=True)
class Course:
    """Inputs of a training, beside the network.

    examples   the labeled images
    rows       numbers of the images to train on
    model      how pixels are normalised
    recipe     batch size, learning rate, augmentation and how many epochs there are
    seed       of order, augmentation, outliers and dropout
    workers    processes that divide each batch, of which this one is number `rank`
    precision  of the forward pass
    exposure   outliers to be unsure of
    """

    examples: Examples
    rows: NDArray[np.int64]
    model: Model
    recipe: Recipe
    seed: int
    workers: int = 1
    rank: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    exposure: Exposure | None = None

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the rows of each step, for all workers together."""
        return list(steps(self.rows, self.recipe.batch_size, self.workers, seed=self.seed, epoch=epoch))


def optimizer_for(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimizer of a training: SGD with Nesterov momentum."""
    return torch.optim.SGD(
        net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )  # fmt: skip


def train_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, course: Course, *, epoch: int) -> None:
    """Train a network for one epoch, in place.

    Args:
        net: on the device it is trained on; wrapped by Ray Train if there are several workers.
        optimizer: of its parameters.
        course: the inputs of the training; they fix every step.
        epoch: its number, from 0.
    """
    recipe = course.recipe
    device = next(net.parameters()).device
    batches = course.batches(epoch)
    before, total = epoch * len(batches), recipe.epochs * len(batches)
    net.train()
    with torch.random.fork_rng(devices=[]):
        for number, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(before + number, total, recipe.lr)
            torch.manual_seed(_dropout_seed(course, epoch, number))
            images, targets = _batch(course, batch, key=(course.seed, epoch, number))
            targets = targets.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=course.precision == "bf16"):
                logits = net(normalise(images.to(device), course.model))
            loss = _loss(logits.float(), targets, course.exposure)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _dropout_seed(course: Course, epoch: int, number: int) -> int:
    """Return the seed of a step's dropout; each worker has its own."""
    key = [course.seed, epoch, number, course.rank]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _batch(course: Course, rows: NDArray[np.int64], *, key: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return this worker's images, outliers last, and the labeled ones' targets."""
    mine, augment = slice(course.rank, None, course.workers), course.recipe.augment
    # Augmented as one batch and then divided, so that the number of workers changes no pixel.
    images = augmented(course.examples.take(rows), augment, key)[mine]
    targets = torch.from_numpy(course.examples.targets[rows][mine])
    if course.exposure is not None:
        pixels = course.exposure.pixels
        drawn = np.random.default_rng([*key, 1]).integers(len(pixels), size=len(rows))
        outliers = augmented(torch.from_numpy(pixels[drawn]), augment, (*key, 1))[mine]
        images = torch.cat([images, outliers])
    return images, targets


def _loss(logits: Tensor, targets: Tensor, exposure: Exposure | None) -> Tensor:
    """Return the loss of labeled images and of the outliers after them."""
    known = len(targets)
    loss = F.cross_entropy(logits[:known], targets)
    if exposure is not None:
        unsure = logits[known:]
        loss = loss + exposure.weight * (unsure.logsumexp(1) - unsure.mean(1)).mean()
    return loss
