"""What a 5 % bank costs in AUROC: CIFAR-10 against three other sets, on a net worth asking."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from cifar_net import load_images, load_network, train

import sisom

STAGES = ("layer1", "layer2", "layer3", "avgpool")
SETS = {"cifar100": 2500, "tiny_imagenet32": 2000, "mnist": 2500}
SEEDS = {"random": (0, 1, 2), "radius": (0,), "kcenter": (0,)}


def changes(data: Path, weights: Path | None) -> Iterator[tuple[str, float, str]]:
    """What is compared, by how much the AUROC changes, and a note; one a method, score and set."""
    images, labels = load_images(data / "cifar10", "train")
    model = train(images, labels) if weights is None else load_network(weights)

    def features(folder: str, split: str, count: int | None = None) -> tuple[sisom.Features, torch.Tensor]:
        x, y = load_images(data / folder, split, count)
        return sisom.extract(model, x, STAGES, tile=64), y

    fit, labels = features("cifar10", "train")
    known, truth = features("cifar10", "test", 5000)
    strange = {name: features(name, "test", count)[0] for name, count in SETS.items()}
    accuracy = sisom.metrics.accuracy(known.logits.argmax(1), truth)
    slopes = searched(fit, labels)
    for neighbors in (1, 5):
        full = sisom.fit_bank(fit, labels, slopes=slopes, neighbors=neighbors)
        before = aurocs(full, known, strange)
        for method, seeds in SEEDS.items():
            banks = [
                sisom.fit_bank(
                    fit, labels, slopes=slopes, neighbors=neighbors,
                    subset=0.05, subset_method=method, seed=seed,
                )
                for seed in seeds
            ]  # fmt: skip
            for how in ("own r_avg", "the full bank's r_avg"):
                if how != "own r_avg":
                    banks = [replace(bank, r_avg=full.r_avg) for bank in banks]
                after = [aurocs(bank, known, strange) for bank in banks]
                for by, name in before:
                    if by == "sisom" and how != "own r_avg":
                        continue  # r_avg does not enter the ratio
                    mean = sum(seen[by, name] for seen in after) / len(after)
                    note = f"full {before[by, name]:.4f}, {how} {banks[0].r_avg:.2f}, accuracy {accuracy:.3f}"
                    yield f"{by}, k = {neighbors}, 5 % {method}, {name}", mean - before[by, name], note


def searched(features: sisom.Features, labels: torch.Tensor) -> dict[str, float]:
    """The best of 81 combinations around the knee, by leave-one-out on 300 rows a class."""
    some = torch.cat([(labels == c).nonzero().flatten()[:300] for c in range(10)])
    part = features.select(some)
    middle = sisom.reduced_slopes(part, 0.0)
    grid = {name: [slope * factor for factor in (0.03, 0.3, 3.0)] for name, slope in middle.items()}
    return sisom.search_slopes(part, labels[some], grid)


def aurocs(
    bank: sisom.FeatureBank, known: sisom.Features, strange: dict[str, sisom.Features]
) -> dict[tuple[str, str], float]:
    own = sisom.score(bank, known)
    found = {}
    for name, features in strange.items():
        other = sisom.score(bank, features)
        for by in ("sisom", "sisome"):
            found[by, name] = float(sisom.metrics.auroc(getattr(own, by), getattr(other, by)))
    return found
