"""The same numbers on a CUDA device; and features that still carry history."""

import pytest
import torch

from sisom import Features, build_model, extract, fit_bank, score, search_slopes


def test_history_of_the_features_is_ignored(make):
    fit, labels = make(40)
    live = Features(
        fit.saliency.clone().requires_grad_(),
        fit.layer_dims,
        fit.penultimate,
        fit.logits.clone().requires_grad_(),
    )
    found = score(fit_bank(live, labels, slopes=1.0), live)
    assert not found.sisome.requires_grad
    assert torch.equal(found.sisome, score(fit_bank(fit, labels, slopes=1.0), fit).sisome)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"outer": "anchor"}, {"neighbors": 3}, {"subset": 0.5, "subset_method": "radius"}]
)
def test_cuda_equals_cpu(make, options):
    fit, labels = make(400, classes=5)
    pool, _ = make(300, classes=5, seed=1, spread=2.0)
    here = fit_bank(fit, labels, slopes=1.0, **options)
    there = fit_bank(fit.to("cuda"), labels, slopes=1.0, **options)
    assert there.points.is_cuda and there.r_avg == pytest.approx(here.r_avg, rel=1e-5)
    one, two = score(here, pool), score(there, pool)
    assert torch.allclose(one.ratio, two.ratio.cpu(), rtol=1e-5)
    assert torch.allclose(one.sisome, two.sisome.cpu(), rtol=1e-4, atol=1e-4)
    parts = [score(there, pool.select(slice(s, s + 7))).ratio for s in range(0, 300, 7)]
    assert torch.equal(torch.cat(parts), two.ratio)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_extraction_and_search():
    model = build_model("resnet10_w16", 5, seed=0)
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    here, there = extract(model, images), extract(model.cuda(), images)
    assert there.saliency.is_cuda
    assert torch.allclose(
        here.saliency, there.saliency.cpu(), rtol=1e-2, atol=1e-4 * float(here.saliency.abs().max())
    )
    grid = {name: [1.0, 1e3] for name in here.layers}
    labels = torch.arange(40) % 5
    assert set(search_slopes(there, labels, grid)) == set(here.layers)
