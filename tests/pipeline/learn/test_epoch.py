"""The steps of an epoch: against a plain loop, cut off, divided among workers, and in studies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config.sections import Model
from pipeline.config.training import Augment, Crops, RandomResizedCrop, Train
from pipeline.learn.epoch import Course, ExamplesInMemory, Exposure, _batch, train_epoch
from pipeline.learn.recipe.augment import augmented
from pipeline.learn.recipe.averaging import Average
from pipeline.learn.recipe.optimizer import optimizer_for
from pipeline.learn.recipe.values import Recipe
from pipeline.learn.schedule import steps
from pipeline.model.network import normalise
from pipeline.model.weights import new_network
from pipeline.studies.lab.networks import fit
from pipeline.studies.sections import Training
from sisom.network.models import save_weights

MODEL = Model(name="resnet10_w16", image_size=8)
TRAIN = Train(epochs=3, batch_size=8, lr=0.05, augment=Augment(pad=1, flip=True))
RECIPE = Recipe.of_round(TRAIN)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Layers this small are only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def course(**more: object) -> Course:
    rng = np.random.default_rng(0)
    examples = ExamplesInMemory(
        rng.integers(0, 255, (30, 3, 8, 8)).astype(np.uint8), np.arange(30, dtype=np.int64) % 3
    )
    return replace(Course(examples, np.arange(4, 30), MODEL, RECIPE, seed=11), **more)  # type: ignore[arg-type]


def trained(told: Course, dropout: float = 0.0) -> nn.Module:
    net = new_network(MODEL, 3, seed=2, dropout=dropout)
    optimizer = optimizer_for(net, told.recipe)
    for epoch in range(told.recipe.epochs):
        train_epoch(net, optimizer, told, epoch=epoch)
    return net


def test_the_steps_are_those_of_a_plain_loop() -> None:
    told = course()
    assert isinstance(told.examples, ExamplesInMemory)
    net = new_network(MODEL, 3, seed=2).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    done, total = 0, 4 * 3  # 26 rows in batches of at most 8
    for epoch in range(3):
        for number, rows in enumerate(steps(told.rows, 8, 1, seed=11, epoch=epoch)):
            # A linear warm-up over a twentieth of the steps, one at least; then a cosine to zero.
            lr = 0.05 if done < 1 else 0.05 * 0.5 * (1 + math.cos(math.pi * (done - 1) / (total - 1)))
            for group in optimizer.param_groups:
                group["lr"] = lr
            pixels = augmented(
                torch.from_numpy(told.examples.pixels[rows]), RECIPE.augment, (11, epoch, number)
            )
            loss = F.cross_entropy(
                net(normalise(pixels, MODEL)), torch.from_numpy(told.examples.targets[rows])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    assert done == total
    assert save_weights(trained(told)) == save_weights(net)


def test_outliers_by_hand() -> None:
    outliers = np.random.default_rng(1).integers(0, 255, (5, 3, 8, 8)).astype(np.uint8)
    one = replace(RECIPE, epochs=1, batch_size=64)
    told = course(recipe=one, exposure=Exposure(outliers, 0.5))
    assert isinstance(told.examples, ExamplesInMemory)
    net = new_network(MODEL, 3, seed=2).train()
    (rows,) = told.batches(0)
    drawn = np.random.default_rng([11, 0, 0, 1]).integers(5, size=26)
    images = torch.cat(
        [
            augmented(torch.from_numpy(told.examples.pixels[rows]), one.augment, (11, 0, 0)),
            augmented(torch.from_numpy(outliers[drawn]), one.augment, (11, 0, 0, 1)),
        ]
    )
    logits = net(normalise(images, MODEL))
    uniform = -F.log_softmax(logits[26:], 1).mean(1).mean()  # cross-entropy of 1/3, 1/3, 1/3 to the softmax
    loss = F.cross_entropy(logits[:26], torch.from_numpy(told.examples.targets[rows])) + 0.5 * uniform
    loss.backward()
    other = new_network(MODEL, 3, seed=2)
    optimizer = optimizer_for(other, one)
    train_epoch(other, optimizer, told, epoch=0)
    for mine, its in zip(net.parameters(), other.parameters(), strict=True):
        assert mine.grad is not None
        assert its.grad is not None
        assert torch.allclose(mine.grad, its.grad, atol=1e-5)


def test_training_that_is_cut_off_goes_on_to_the_same_weights_with_dropout_too() -> None:
    told = course()
    whole = trained(told, dropout=0.5)
    net = new_network(MODEL, 3, seed=2, dropout=0.5)
    optimizer = optimizer_for(net, told.recipe)
    for epoch in range(3):
        torch.rand(epoch + 1)  # whatever else the process draws
        train_epoch(net, optimizer, told, epoch=epoch)
    assert save_weights(net) == save_weights(whole)
    assert save_weights(trained(told)) != save_weights(whole)  # it does drop
    assert save_weights(trained(replace(told, seed=12), dropout=0.5)) != save_weights(whole)


def test_training_leaves_the_random_state_of_the_process() -> None:
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    trained(course(), dropout=0.5)
    assert torch.equal(torch.rand(3), wanted)


class Watching(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 64, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of (n, 3, 8, 8) images."""
        self.seen.append(images)
        return self.fc(images.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("exposed", [False, True])
def test_workers_divide_the_images_of_a_step(workers: int, exposed: bool) -> None:
    outliers = np.random.default_rng(1).integers(0, 255, (5, 3, 8, 8)).astype(np.uint8)
    told = course(exposure=Exposure(outliers, 0.5) if exposed else None)

    def seen(told: Course) -> list[torch.Tensor]:
        net = Watching()
        train_epoch(net, optimizer_for(net, RECIPE), told, epoch=0)
        return net.seen

    parts = [seen(replace(told, workers=workers, rank=rank)) for rank in range(workers)]
    steps_taken = {len(part) for part in parts}
    assert len(steps_taken) == 1
    images = [torch.cat(step).flatten(1).sum(1).sort().values for step in zip(*parts, strict=True)]
    if workers == 2:  # as many steps as one worker takes
        alone = [step.flatten(1).sum(1).sort().values for step in seen(told)]
        assert all(torch.allclose(a, b) for a, b in zip(images, alone, strict=True))
    assert sum(map(len, images)) == 26 * (1 + exposed)


def test_a_study_trains_as_a_round_does() -> None:
    """To the bit with a network for which the layout of images in memory makes no difference."""
    training = Training(epochs=3, batch_size=8, lr=0.05, augment=Crops(pad=1, flip=True))
    torch.manual_seed(0)
    study, net = Watching(), Watching()
    net.load_state_dict(study.state_dict())
    fit(study, course(recipe=Recipe.plain(training)), device="cpu")
    optimizer = optimizer_for(net, RECIPE)
    for epoch in range(3):
        train_epoch(net, optimizer, course(), epoch=epoch)
    assert torch.equal(study.fc.weight, net.fc.weight)
    assert torch.equal(study.fc.bias, net.fc.bias)
    assert not study.training


# ------------------------------------------------------------------------------------- choices of a recipe


def of_round(**options: object) -> Recipe:
    return Recipe.of_round(TRAIN.model_copy(update=options))


MIXED = Augment(pad=1, random_resized_crop=RandomResizedCrop(), mixup=1.0, cutmix=1.0)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_divide_mixed_images_and_their_targets(workers: int) -> None:
    """Rows fill the batches evenly for any of these numbers of workers."""
    told = course(rows=np.arange(6, 30), recipe=of_round(augment=MIXED))
    (first, *_), key = told.batches(0), (11, 0, 0)

    def share(workers: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, targets = _batch(replace(told, workers=workers, rank=rank), first, key=key)
        return images, targets.on(torch.device("cpu"), 3)

    images, targets = share(1, 0)
    assert not torch.equal(targets, targets.round())  # they are mixed
    assert torch.allclose(targets.sum(1), torch.ones(8))
    for rank in range(workers):
        mine, its = share(workers, rank)
        assert torch.equal(mine, images[rank::workers])
        assert torch.equal(its, targets[rank::workers])


def test_a_step_of_several_batches_has_the_gradient_of_one_large_batch() -> None:
    """By a network without batch norms, whose loss is a mean over rows."""
    plain = Augment(pad=0, flip=False)
    nets = []
    for batch_size, accumulate in ((64, 1), (8, 4)):
        torch.manual_seed(0)
        net = Watching()
        recipe = of_round(batch_size=batch_size, accumulate=accumulate, augment=plain, epochs=1)
        train_epoch(net, optimizer_for(net, recipe), course(recipe=recipe), epoch=0)
        nets.append(net)
    assert [len(net.seen) for net in nets] == [1, 4]  # batches of 7, 7, 6 and 6 rows
    assert torch.allclose(nets[0].fc.weight, nets[1].fc.weight, atol=1e-6)
    torch.manual_seed(0)
    assert not torch.allclose(Watching().fc.weight, nets[0].fc.weight, atol=1e-4)


def test_accumulation_takes_fewer_steps_and_keeps_the_schedule() -> None:
    told = course(recipe=of_round(accumulate=3))
    assert [len(group) for group in told.groups(0)] == [3, 1]
    assert sorted(np.concatenate([row for group in told.groups(0) for row in group])) == list(range(4, 30))


def test_the_backbone_is_frozen_at_first_and_learns_later() -> None:
    told = course(recipe=of_round(frozen_epochs=1))
    net = new_network(MODEL, 3, seed=2)
    optimizer = optimizer_for(net, told.recipe)
    states = [{name: value.clone() for name, value in net.state_dict().items()}]
    for epoch in range(2):
        train_epoch(net, optimizer, told, epoch=epoch)
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    moved = [[name for name in a if not torch.equal(a[name], b[name])] for a, b in itertools.pairwise(states)]
    assert moved[0] == ["fc.weight", "fc.bias"]
    assert set(moved[1]) == set(states[0])


def test_the_average_follows_every_step() -> None:
    told = course()
    net = new_network(MODEL, 3, seed=2)
    optimizer, average = optimizer_for(net, told.recipe), Average(net, 0.9)
    steps_seen: list[int] = []
    follow = average.follow

    def seen(net: nn.Module, step: int) -> None:
        steps_seen.append(step)
        follow(net, step)

    average.follow = seen  # type: ignore[method-assign]
    for epoch in range(2):
        train_epoch(net, optimizer, told, epoch=epoch, average=average)
    assert steps_seen == list(range(8))
    assert save_weights(average.net) != save_weights(net)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "lr": 0.01},
        {"layer_decay": 0.5},
        {"label_smoothing": 0.2},
        {"loss": "logit-norm"},
        {"augment": MIXED},
    ],
    ids=["adamw", "layer-decay", "smoothing", "logit-norm", "mixed"],
)  # fmt: skip
def test_an_option_changes_the_training_and_repeats_itself(options: dict[str, object]) -> None:
    told = course(recipe=of_round(epochs=1, **options))
    plain = save_weights(trained(course(recipe=of_round(epochs=1))))
    assert save_weights(trained(told)) == save_weights(trained(told)) != plain


def test_class_weights_favor_the_class_that_is_named() -> None:
    """Every class looks the same, so what is predicted follows the weights."""
    for weights, wanted in (((1.0, 1.0, 8.0), 2), ((8.0, 1.0, 1.0), 0)):
        recipe = of_round(epochs=10)
        told = course(recipe=replace(recipe, loss=replace(recipe.loss, weights=weights)))
        assert isinstance(told.examples, ExamplesInMemory)
        torch.manual_seed(0)
        net = Watching()
        optimizer = optimizer_for(net, replace(told.recipe, weight_decay=0.0))
        flat = replace(
            told, examples=ExamplesInMemory(np.zeros_like(told.examples.pixels) + 128, told.examples.targets)
        )
        for epoch in range(10):
            train_epoch(net, optimizer, flat, epoch=epoch)
        with torch.no_grad():
            logits = net(normalise(torch.full((1, 3, 8, 8), 128, dtype=torch.uint8), MODEL))
        assert int(logits.argmax()) == wanted
