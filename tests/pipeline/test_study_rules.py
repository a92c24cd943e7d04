"""The rules inside studies: open sets, initial labels, variants of SISOM, training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import sisom
from pipeline.ask import far_filter as rounds
from pipeline.config.sections import Augment, Model
from pipeline.errors import ConfigError
from pipeline.learn.epoch import Course, ExamplesInMemory, Exposure
from pipeline.learn.seeds import member_seed, round_seed
from pipeline.model.weights import Start, new_network
from pipeline.studies.ablation.config import Search, Variant
from pipeline.studies.ablation.variants import fit as fit_variant
from pipeline.studies.ablation.variants import prepare, slopes_of
from pipeline.studies.active import query
from pipeline.studies.active.config import ActiveStudy, OpenSet
from pipeline.studies.active.images import StudyImages, initial_rows
from pipeline.studies.active.open_set import accuracy, known_classes, passing, query_measures
from pipeline.studies.kinds import load_study
from pipeline.studies.lab.networks import embed, fit, load, predict
from pipeline.studies.sections import Training
from sisom.network.models import save_weights
from sisom.verdicts import far_filter

CONFIGS = Path(__file__).parents[2] / "configs"


# ------------------------------------------------------------------------------------------------- open sets


def test_a_class_is_known_when_enough_of_it_is_labeled() -> None:
    rules = OpenSet(known=0.5, promote=3)
    labeled = np.asarray([0, 1, 2, 2, 3, 3, 3, -1, -1, -1], np.int64)
    assert known_classes(labeled, 4, rules=rules).tolist() == [0, 1, 3]
    assert known_classes(labeled[:6], 4, rules=rules).tolist() == [0, 1]
    assert known_classes(labeled, 4, rules=None).tolist() == [0, 1, 2, 3]


def test_nobody_is_right_on_a_class_that_is_not_known() -> None:
    truth = np.asarray([0, 0, 1, 1, 2, 2], np.int64)
    predicted = np.asarray([0, 1, 1, 1, 0, 1], np.int64)
    assert accuracy(predicted, truth, np.asarray([0, 1]), classes=3) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert accuracy(truth, truth, np.asarray([0, 1]), classes=4) == pytest.approx(0.5)


def test_the_filter_cuts_where_the_labeled_far_images_stand_apart() -> None:
    energy = np.asarray([-11.0, -10.0, -9.0, -8.0, -7.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0])
    far = energy >= -2.0
    limit, _ = far_filter(energy[far], energy[~far])
    assert limit == -2.0
    assert passing(np.asarray([-5.0, -2.0, 0.0]), limit, 1).tolist() == [True, False, False]
    assert passing(np.asarray([-1.0, -2.0, 0.0]), limit, 2).tolist() == [True, True, False]
    nothing, _ = far_filter(energy[:0], energy)  # no far image is labeled yet
    assert nothing is None
    assert passing(energy, nothing, 1).all()


def test_a_study_asks_the_filter_of_rounds() -> None:
    """Where far images do not stand apart, the filter of a study passes the whole pool as a round's does."""
    far, rest = np.asarray([1.0] * 5), np.asarray([5.0] * 5)
    assert far_filter(far, rest) == (None, 0.0)
    assert query.far_filter is rounds.far_filter is far_filter


def test_precision_and_recall_of_a_query_by_hand() -> None:
    pool = np.asarray([0] * 6 + [1] * 4 + [-1] * 5, np.int64)
    found = query_measures(np.asarray([0, 1, -1, -1]), np.asarray([0, 0, -1]), pool)
    assert found == {"precision": 0.5, "recall": 0.4}


def images_of(truth: np.ndarray, classes: int) -> StudyImages:
    n = len(truth)
    ids = tuple(f"i{k:04d}" for k in range(n))
    pixels = np.zeros((n, 3, 8, 8), np.uint8)
    return StudyImages(ids, pixels, truth, pixels[:1], truth[:1], tuple(map(str, range(classes))), None)


def test_initial_labels_are_balanced_and_of_known_classes() -> None:
    config = load_study(CONFIGS / "al_digits.yaml", ["initial=22", "open_set={known: 0.5}"])
    assert isinstance(config, ActiveStudy)
    truth = np.asarray([0] * 90 + [1] * 9 + [2] * 60 + [3] * 60 + [-1] * 30, np.int64)
    images = images_of(truth, 4)
    rows = initial_rows(images, config, 0)
    assert np.bincount(truth[rows], minlength=4).tolist() == [
        13,
        9,
        0,
        0,
    ]  # a class that runs out leaves its turns
    assert len(set(rows.tolist())) == 22
    assert rows.tolist() == initial_rows(images, config, 0).tolist()
    assert rows.tolist() != initial_rows(images, config, 1).tolist()
    assert len({member_seed(round_seed(s, r), m) for s in range(4) for r in range(4) for m in range(3)}) == 48


# --------------------------------------------------------------------------------------------------- networks

MODEL = Model(name="resnet10_w16", image_size=8)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Layers this small are only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def two_classes(n: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Dark and bright images."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    pixels = rng.integers(0, 90, (n, 3, 8, 8)) + 150 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels.astype(np.int64)


def trained(exposure: Exposure | None = None) -> torch.nn.Module:
    pixels, labels = two_classes()
    training = Training(epochs=12, batch_size=16, lr=0.05, augment=Augment(pad=0, flip=False))
    net = new_network(MODEL, 2, seed=3)
    examples, rows = ExamplesInMemory(pixels, labels), np.arange(len(labels))
    return fit(net, Course(examples, rows, MODEL, training, 5, exposure=exposure), device="cpu")


def test_training_learns_and_repeats_itself() -> None:
    pixels, labels = two_classes()
    first, again = trained(), trained()
    assert save_weights(first) == save_weights(again)
    logits = predict(first, pixels, MODEL, batch_size=7)
    assert float((logits.argmax(1).numpy() == labels).mean()) > 0.9
    back = load(MODEL, 2, save_weights(first), device="cpu")
    found = embed(back, [pixels[:5], pixels[5:]], MODEL, layers=("layer3", "avgpool"), batch_size=16)
    assert torch.allclose(found.logits, logits, atol=1e-4)
    assert found.layers == ("layer3", "avgpool")


def test_exposure_makes_the_network_unsure_of_outliers() -> None:
    outliers = np.random.default_rng(1).integers(0, 255, (30, 3, 8, 8)).astype(np.uint8)

    def surest(net: torch.nn.Module) -> float:
        return float(torch.softmax(predict(net, outliers, MODEL, batch_size=30), 1).amax(1).mean())

    assert surest(trained(Exposure(outliers, 2.0))) < surest(trained()) - 0.05


def test_a_start_from_a_backbone_leaves_the_classifier_fresh() -> None:
    state = new_network(MODEL, 7, seed=1).state_dict()
    from safetensors.torch import save

    weights = save({f"backbone.{name}": value.clone() for name, value in state.items()})
    net = new_network(MODEL, 2, seed=3, start=Start(weights, "backbone"))
    fresh = new_network(MODEL, 2, seed=3)
    assert torch.equal(net.state_dict()["conv1.weight"], state["conv1.weight"])
    assert torch.equal(net.state_dict()["fc.weight"], fresh.state_dict()["fc.weight"])
    with pytest.raises(ConfigError, match=r"conv1\.weight is missing"):
        new_network(MODEL, 2, seed=3, start=Start(save({"else": torch.zeros(1)}), "backbone"))
    with pytest.raises(ConfigError, match="not a safetensors file"):
        new_network(MODEL, 2, seed=3, start=Start(b"pickle", "backbone"))
    with pytest.raises(ConfigError, match="no dropout"):
        new_network(Model(name="resnet18"), 2, seed=0, dropout=0.1)


# --------------------------------------------------------------------------------------------------- variants


def features(n: int, seed: int, shift: float = 0.0) -> sisom.Features:
    g = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 3
    centers = torch.nn.functional.one_hot(classes, 8).float() * 4
    penultimate = (centers + torch.randn(n, 8, generator=g) + shift).abs()
    saliency = torch.cat([penultimate * 0.1, torch.randn(n, 4, generator=g) * 1e-3], dim=1)
    return sisom.Features(saliency, (("avgpool", 8), ("layer3", 4)), penultimate, penultimate[:, :3] * 2)


LABELS = torch.arange(60) % 3


def test_the_plain_variants_are_the_librarys_scores() -> None:
    known, others = features(60, 0), features(20, 1)
    bank = sisom.fit_bank(known, LABELS, slopes=2.0, outer="anchor", neighbors=3)
    scores = sisom.score(bank, others)
    for partner, wanted in (("none", scores.sisom), ("energy", scores.sisome)):
        variant = Variant(slopes=2.0, outer="anchor", neighbors=3, partner=partner)  # type: ignore[arg-type]
        assert torch.equal(fit_variant(variant, known, LABELS, search=Search()).score(others), wanted)


def test_the_neighbor_as_a_partner_by_a_slow_loop() -> None:
    known, others = features(60, 0), features(20, 1, shift=2.0)
    fitted = fit_variant(Variant(slopes=2.0, partner="knn"), known, LABELS, search=Search())
    unit = torch.nn.functional.normalize(known.penultimate.double(), dim=1)
    own = torch.cdist(unit, unit)
    own.fill_diagonal_(torch.inf)
    kth = own.sort(dim=1).values[:, 49]
    assert fitted.partner is not None
    assert fitted.partner.mean == pytest.approx(float(kth.mean()), rel=1e-5)
    away = torch.cdist(torch.nn.functional.normalize(others.penultimate.double(), dim=1), unit)
    distance = away.sort(dim=1).values[:, 49]
    ratio = (sisom.score(fitted.bank, others).ratio.double() - fitted.bank.r_avg) / fitted.bank.r_std
    on_ratio = max(1 - fitted.bank.r_avg, 0)
    wanted = min(fitted.bank.r_avg, 1) * (distance - kth.mean()) / kth.std() + on_ratio * ratio
    assert torch.allclose(fitted.score(others).double(), wanted, atol=1e-4)


def test_both_partners_are_the_catalogues_detector_and_by_hand_its_formula() -> None:
    known, others = features(60, 0), features(20, 1, shift=2.0)
    detector = sisom.build_detector("sisom-fused", slopes=2.0, k=7, outer="sample")
    state = detector.fit(known, LABELS)
    scores, bank = sisom.score(state.bank, others), state.bank
    unit = torch.nn.functional.normalize(known.penultimate.double(), dim=1)
    own = torch.cdist(unit, unit)
    own.fill_diagonal_(torch.inf)
    kth = own.sort(dim=1).values[:, 6]
    away = torch.cdist(torch.nn.functional.normalize(others.penultimate.double(), dim=1), unit)
    near = (away.sort(dim=1).values[:, 6] - kth.mean()) / kth.std()
    energy = (-torch.logsumexp(others.logits.double(), 1) - bank.energy_mean) / bank.energy_std
    ratio = (scores.ratio.double() - bank.r_avg) / bank.r_std
    wanted = min(bank.r_avg, 1) * (near + energy) / 2 + max(1 - bank.r_avg, 0) * ratio
    assert torch.allclose(detector.score(state, others).double(), wanted, atol=1e-4)

    both = fit_variant(Variant(slopes=2.0, outer="anchor", partner="both"), known, LABELS, search=Search())
    plain = sisom.build_detector("sisom-fused", slopes=2.0)
    assert torch.equal(both.score(others), plain.score(plain.fit(known, LABELS), others))


def test_parts_of_the_space() -> None:
    known = features(60, 0)
    one = prepare(known, Variant(layers=("layer3",)))
    assert one.layers == ("layer3",)
    assert torch.equal(one.saliency, known.saliency[:, 8:])
    unit = prepare(known, Variant(normalise="rows")).saliency
    assert torch.allclose(unit[:, :8].norm(dim=1), torch.ones(60), atol=1e-5)
    assert torch.allclose(unit[:, 8:].norm(dim=1), torch.ones(60), atol=1e-5)
    plain = prepare(known, Variant(space="penultimate", slopes=1.0))
    assert torch.equal(plain.saliency, known.penultimate)
    typical = slopes_of(Variant(slopes="typical"), known, LABELS, search=Search())
    assert isinstance(typical, dict)
    assert float((known.saliency[:, 8:] * typical["layer3"]).abs().median()) == pytest.approx(1.0, rel=0.05)
    searched = slopes_of(
        Variant(slopes="searched"), known, LABELS, search=Search(rows=60, candidates=(0.1, 1.0))
    )
    assert isinstance(searched, dict)
    best = sisom.average_ratio(known, LABELS, searched)
    assert best <= sisom.average_ratio(known, LABELS, typical) + 1e-6
