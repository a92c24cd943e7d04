"""A bank that was changed equals a bank that was built anew."""

import pytest
import torch

from sisom import add_labeled, errors, fit_bank, merge_banks, raise_classes, remove_rows, score

SLOPES = {"a": 0.8, "b": 1.5}


def equal(one, two):
    for name in ("r_avg", "r_std", "energy_mean", "energy_std"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-5)
    assert torch.equal(one.points, two.points) and torch.equal(one.labels, two.labels)
    assert (one.num_classes, one.counted, one.skipped) == (two.num_classes, two.counted, two.skipped)


@pytest.fixture(params=[{}, {"outer": "anchor"}, {"neighbors": 2}, {"r_avg": 0.4}], ids=str)
def options(request):
    return {"slopes": SLOPES, "prune": False, **request.param}


@pytest.mark.parametrize("cut", [8, 30, 59])
def test_adding(make, options, cut):
    fit, labels = make(60)
    first, rest = torch.arange(cut), torch.arange(cut, 60)
    part = fit_bank(fit.select(first), labels[first], **options)
    grown = add_labeled(part, fit.select(rest), labels[rest])
    whole = fit_bank(fit, labels, **options)
    equal(grown, whole)
    assert torch.equal(grown.source, whole.source) and grown.fitted == 60


def test_removing(make, options):
    fit, labels = make(60)
    gone = torch.tensor([0, 7, 31, 59])
    kept = torch.tensor([i for i in range(60) if i not in gone.tolist()])
    lean = remove_rows(fit_bank(fit, labels, **options), gone)
    equal(lean, fit_bank(fit.select(kept), labels[kept], **options))
    assert set(lean.source.tolist()) == set(kept.tolist())
    back = add_labeled(lean, fit.select(gone), labels[gone])
    assert back.r_avg == pytest.approx(fit_bank(fit, labels, **options).r_avg, rel=1e-5)
    assert len(set(back.source.tolist())) == 60


def test_merging_shards(make, options):
    fit, labels = make(60)
    shards = [torch.arange(0, 20), torch.arange(20, 48), torch.arange(48, 60)]
    merged = merge_banks([fit_bank(fit.select(rows), labels[rows], **options) for rows in shards])
    whole = fit_bank(fit, labels, **options)
    equal(merged, whole)
    assert torch.equal(merged.source, whole.source)
    pool, _ = make(20, seed=1)
    assert torch.allclose(score(merged, pool).sisome, score(whole, pool).sisome, rtol=1e-5)


def test_a_new_class(make):
    fit, labels = make(60)
    bank = fit_bank(fit, labels, slopes=SLOPES, num_classes=4)
    with pytest.raises(errors.LabelError):
        add_labeled(bank, fit.select([0]), torch.tensor([4]))
    grown = add_labeled(raise_classes(bank, 5), fit.select([0, 1]), torch.tensor([4, 4]))
    assert grown.num_classes == 5 and int(grown.labels[-1]) == 4
    with pytest.raises(errors.LabelError):
        raise_classes(bank, 3)


def test_refusals(make):
    fit, labels = make(60)
    bank = fit_bank(fit, labels, slopes=SLOPES)
    with pytest.raises(errors.InputError, match="no fitted row 60"):
        remove_rows(bank, torch.tensor([3, 60]))
    with pytest.raises(errors.EmptyInput):
        remove_rows(bank, torch.arange(60))
    with pytest.raises(errors.TooFewLabels):
        remove_rows(bank, (labels != 0).nonzero().flatten())
    thin = fit_bank(fit, labels, slopes=SLOPES, subset=0.5)
    held = fit_bank(fit, labels, slopes=SLOPES, held_out=(fit, labels))
    for other in (thin, held):
        with pytest.raises(errors.InputError, match="fit it again"):
            add_labeled(other, fit, labels)
    with pytest.raises(errors.InputError, match="differ in slopes"):
        merge_banks([bank, fit_bank(fit, labels, slopes=2.0)])
    with pytest.raises(errors.EmptyInput):
        merge_banks([])
