"""The steps of an epoch, the same in rounds and studies.

Order, augmentation, learning rate and the masks of dropout follow from (seed, epoch, step) alone. So training that was
cut off goes on to the same weights, and a study trains as a round does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.sections import Model
from pipeline.learn.recipe.augment import augmented
from pipeline.learn.recipe.averaging import Average
from pipeline.learn.recipe.mixing import mixing
from pipeline.learn.recipe.optimizer import Freezing, set_rate
from pipeline.learn.recipe.values import Recipe
from pipeline.learn.schedule import learning_rate, steps
from pipeline.model.network import normalise
from sisom.losses import mixed_targets


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
    recipe     the choices, such as batch size, optimizer, augmentation and loss
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
        """Return the rows of each batch, for all workers together."""
        return list(steps(self.rows, self.recipe.batch_size, self.workers, seed=self.seed, epoch=epoch))

    def groups(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """Return the batches of each step of the optimizer."""
        batches, size = self.batches(epoch), self.recipe.accumulate
        return [batches[start : start + size] for start in range(0, len(batches), size)]


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    course: Course,
    *,
    epoch: int,
    average: Average | None = None,
) -> None:
    """Train a network for one epoch, in place.

    Args:
        net: on the device it is trained on; wrapped by Ray Train if there are several workers.
        optimizer: of its parameters.
        course: the inputs of the training; they fix every step.
        epoch: its number, from 0.
        average: follows the weights after each step.
    """
    recipe, bare = course.recipe, unwrapped(net)
    device = next(net.parameters()).device
    groups = course.groups(epoch)
    before, total = epoch * len(groups), recipe.epochs * len(groups)
    net.train()
    frozen = Freezing(bare) if epoch < recipe.frozen_epochs else None
    if frozen is not None:
        frozen.set_modes()
    number = 0
    with torch.random.fork_rng(devices=[]):
        for step, group in enumerate(groups, start=before):
            set_rate(optimizer, learning_rate(step, total, recipe.lr))
            optimizer.zero_grad(set_to_none=True)
            images_of_step = sum(map(len, group))
            for place, batch in enumerate(group):
                images, targets = _batch(course, batch, key=(course.seed, epoch, number))
                torch.manual_seed(_dropout_seed(course, epoch, number))
                with _gradients_shared(net, last=place + 1 == len(group)):
                    with torch.autocast(device.type, torch.bfloat16, enabled=course.precision == "bf16"):
                        logits = net(normalise(images.to(device), course.model))
                    loss = _loss(logits.float(), targets.on(device, logits.shape[1]), course)
                    (loss * (len(batch) / images_of_step)).backward()  # type: ignore[no-untyped-call]
                number += 1
            if frozen is not None:
                frozen.drop_gradients()
            optimizer.step()
            if average is not None:
                average.follow(bare, step)


def unwrapped(net: nn.Module) -> nn.Module:
    """Return the network inside what divides it among workers."""
    return net.module if isinstance(net, DistributedDataParallel) else net


def _gradients_shared(net: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Let workers average gradients once a step, after its last batch."""
    return nullcontext() if last or not isinstance(net, DistributedDataParallel) else net.no_sync()


def _dropout_seed(course: Course, epoch: int, number: int) -> int:
    """Return the seed of a step's dropout; each worker has its own."""
    key = [course.seed, epoch, number, course.rank]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


@dataclass(frozen=True)
class _Targets:
    """Classes of labeled images, and of their partners if they are mixed."""

    own: Tensor
    partners: Tensor | None = None
    share: float = 0.0

    def on(self, device: torch.device, classes: int) -> Tensor:
        """Return classes, or distributions over them if images are mixed."""
        if self.partners is None:
            return self.own.to(device)
        return mixed_targets(self.own, self.partners, share=self.share, classes=classes).to(device)


def _batch(course: Course, rows: NDArray[np.int64], *, key: tuple[int, int, int]) -> tuple[Tensor, _Targets]:
    """Return this worker's images, outliers last, and the labeled ones' targets."""
    augment = course.recipe.augment
    mine = np.arange(course.rank, len(rows), course.workers)
    # All that is random belongs to a place in the whole batch, so the number of workers changes no pixel.
    pixels = course.examples.take(rows)
    classes = torch.from_numpy(course.examples.targets[rows])
    mixed = mixing(augment, len(rows), pixels.shape[-1], seed=key)
    if mixed is None:
        images, targets = augmented(pixels, augment, key, places=mine), _Targets(classes[mine])
    else:
        theirs = mixed.partners[mine]
        places, found = np.unique(np.concatenate([mine, theirs]), return_inverse=True)
        changed = augmented(pixels, augment, key, places=places)[found]
        own, other = changed[: len(mine)], changed[len(mine) :]
        images = mixed.of(own, other)
        targets = _Targets(classes[mine], classes[theirs], mixed.share)
    if course.exposure is not None:
        outliers = course.exposure.pixels
        drawn = np.random.default_rng([*key, 1]).integers(len(outliers), size=len(rows))
        images = torch.cat(
            [images, augmented(torch.from_numpy(outliers[drawn]), augment, (*key, 1), places=mine)]
        )
    return images, targets


def _loss(logits: Tensor, targets: Tensor, course: Course) -> Tensor:
    """Return the loss of labeled images and of the outliers after them."""
    known = len(targets)
    loss = course.recipe.loss.of(logits[:known], targets)
    if course.exposure is not None:
        unsure = logits[known:]
        loss = loss + course.exposure.weight * (unsure.logsumexp(1) - unsure.mean(1)).mean()
    return loss
