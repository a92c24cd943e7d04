"""A small world with a real last layer: four known classes, and strangers who stir neurons that no class uses."""

import torch
from torch import Tensor

import sisom
from sisom import Candidates, Features, Head, Labeled

CLASSES, WIDTH, LEVEL = 4, 12, 3.0


def head() -> Head:
    """Each class reads two neurons; the last four neurons are read by none."""
    generator = torch.Generator().manual_seed(99)
    weight = 0.05 * torch.randn(CLASSES, WIDTH, generator=generator)
    for c in range(CLASSES):
        weight[:, 2 * c : 2 * c + 2] -= 0.5
        weight[c, 2 * c : 2 * c + 2] += 1.5
    return Head(weight, 0.05 * torch.randn(CLASSES, generator=generator))


def features_of(penultimate: Tensor) -> Features:
    """Features of two layers; the last is the pooled one, its gradient in closed form."""
    last = head()
    logits = last.logits(penultimate.double()).float()
    pull = torch.softmax(logits, dim=1) - 1 / CLASSES
    mixing = torch.randn(WIDTH, 6, generator=torch.Generator().manual_seed(98))
    early = (penultimate @ mixing).relu() * (pull @ last.weight @ mixing)
    return Features(
        torch.cat([early, penultimate * (pull @ last.weight)], dim=1),
        (("layer3", 6), ("avgpool", WIDTH)),
        penultimate,
        logits,
    )


def make(n: int, *, seed: int, far: bool = False, noise: float = 0.5) -> tuple[Features, Tensor]:
    """Features of `n` images and their labels; far ones are of no class, and their labels mean nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    signal = torch.zeros(n, WIDTH)
    for neuron in range(2):
        signal[torch.arange(n), 2 * labels + neuron] = LEVEL
    if far:
        signal = torch.zeros(n, WIDTH)
        signal[:, 2 * CLASSES :] = LEVEL
    return features_of((signal + noise * torch.randn(n, WIDTH, generator=generator)).relu()), labels


def names(n: int) -> list[str]:
    """Ids that are not positions, and not in order."""
    return [f"image-{(i * 7919 + 3) % n:05d}" for i in range(n)]


def pool_of(features: Features, labeled: Labeled | None = None) -> Candidates:
    """All that any selector may need of these rows; scores by a bank of 60 rows where no labeled set is given."""
    known, labels = make(60, seed=0) if labeled is None else (labeled.features, labeled.labels)
    bank = sisom.fit_bank(known, labels, slopes=1.0)
    generator = torch.Generator().manual_seed(5)
    shaken = features.logits + torch.randn(3, *features.logits.shape, generator=generator)
    return Candidates(
        names(len(features)), sisom.score(bank, features), features, torch.softmax(shaken, dim=2)
    )


def make_pool(n: int = 40, *, seed: int = 1) -> Candidates:
    """A third of the candidates is of no class."""
    near, far = make(n - n // 3, seed=seed, noise=1.0)[0], make(n // 3, seed=seed, far=True)[0]
    return pool_of(Features.concat([near, far]))


def make_labeled(n: int = 60, *, seed: int = 0) -> Labeled:
    """The labeled set as the model sees it."""
    features, labels = make(n, seed=seed)
    return Labeled(features, labels, CLASSES)
