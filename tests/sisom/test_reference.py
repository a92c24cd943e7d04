"""Everything against the slow independent implementation, in every variant."""

import copy
import itertools

import pytest
import torch

from sisom import build_model, extract, fit_bank, score
from tests.support.smooth import smooth

LAYERS = ("layer1", "layer2", "layer3", "avgpool")
VARIANTS = [
    {"outer": outer, "rank": rank, "neighbors": count, "fusion": fusion, "subset": subset}
    for outer, rank, count, fusion, subset in itertools.product(
        ("sample", "anchor"), (1, 2), (1, 3), ("zscore", "raw"), (1.0, 0.5)
    )
]


def close(ours, theirs, tolerance=1e-5, least=1e-3):
    theirs = torch.tensor(theirs, dtype=torch.float64)
    error = (ours.double() - theirs).abs()
    assert bool((error <= tolerance * theirs.abs().clamp(min=least)).all()), float(error.max())


@pytest.mark.parametrize("seed", [0, 1])
def test_saliency_of_a_random_net(reference, seed):
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    check_saliency(reference, build_model("resnet10_w16", 7, seed=seed).double(), images.double())
    check_saliency(reference, smooth(build_model("resnet10_w16", 7, seed=seed)), images)


def test_saliency_of_a_trained_net(reference, trained):
    model, images, _, strangers = trained
    x = torch.cat([images[:3], strangers[:3]])
    check_saliency(reference, model, x, ("avgpool",))  # no gate lies between this layer and the logits
    check_saliency(reference, copy.deepcopy(model).double(), x.double())


def check_saliency(reference, model, images, layers=LAYERS):
    features = extract(model, images, layers)
    expected, logits = reference.saliency(model, images, layers)
    start = 0
    for _, dim in features.layer_dims:
        ours, theirs = features.saliency[:, start : start + dim], expected[:, start : start + dim]
        assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())
        start += dim
    assert torch.allclose(features.logits.double(), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))
def test_scores_of_clusters(reference, make, options):
    fit, labels = make(40, classes=3, seed=1)
    queries, _ = make(12, classes=3, seed=2, spread=1.5)
    check_scores(reference, fit, labels, queries, {"a": 0.7, "b": 1.9}, options)


@pytest.mark.parametrize("outer", ["sample", "anchor"])
def test_scores_of_a_trained_net(reference, trained, outer):
    model, images, truth, strangers = trained
    fit = extract(model, images[:60], LAYERS)
    queries = extract(model, torch.cat([images[600:610], strangers[:10]]), LAYERS)
    slopes = {"layer1": 3e3, "layer2": 1e3, "layer3": 1e3, "avgpool": 30.0}
    options = {"outer": outer, "rank": 1, "neighbors": 1, "fusion": "zscore", "subset": 1.0}
    check_scores(reference, fit, truth[:60], queries, slopes, options)


def check_scores(reference, fit, labels, queries, slopes, options):
    bank = fit_bank(fit, labels, slopes=slopes, **options)
    found = score(bank, queries)
    variant = {"outer": options["outer"], "rank": options["rank"], "count": options["neighbors"]}
    expected, statistics = reference.scores(
        reference.enhance(fit.saliency, fit.layer_dims, slopes),
        labels,
        fit.logits,
        bank.source.tolist(),
        reference.enhance(queries.saliency, queries.layer_dims, slopes),
        queries.logits,
        fusion=options["fusion"],
        **variant,
    )
    close(torch.tensor([bank.r_avg, bank.r_std, bank.energy_mean, bank.energy_std]), statistics)
    inner, outer, ratio, energy, sisome = zip(*expected, strict=True)
    close(found.inner, inner)
    close(found.outer, outer)
    close(found.ratio, ratio)
    close(found.sisom, ratio)
    close(found.energy, energy)
    close(found.sisome, sisome, least=0.1)  # a sum of both signs: relative to its terms, not to itself
    assert torch.equal(found.predicted, queries.logits.argmax(1))
