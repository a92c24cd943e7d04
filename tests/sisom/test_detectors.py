"""Each detector against its formula written again for one row at a time, by hand, and against pytorch-ood."""

import copy
import math

import numpy as np
import open_world
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr

from sisom import (
    SWEEPS,
    Features,
    Head,
    Labeled,
    auto_layers,
    build_detector,
    build_model,
    errors,
    extract,
    fit_bank,
    metrics,
    search_options,
)
from sisom import score as bank_score
from sisom.detectors.neighbors import KnnDetector
from sisom.detectors.odin import OdinDetector

HEAD = open_world.head()
W, B = HEAD.weight.double().numpy(), HEAD.bias.double().numpy()
OPTIONS = {
    "knn": {"k": 5},
    "react": {"percentile": 85.0},
    "dice": {"percentile": 50.0},
    "ash-b": {"percentile": 80.0},
    "gen": {"gamma": 0.3, "largest": 3},
    "vim": {"dim": 4},
    "odin": {"temperature": 10.0},
    "nac-ue": {"slopes": {"layer3": 2.0, "avgpool": 5.0}, "bins": 7, "enough": {"layer3": 3, "avgpool": 9}},
}


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0, noise=1.2)


@pytest.fixture(scope="module")
def queries():
    near, far = open_world.make(20, seed=1, noise=1.2)[0], open_world.make(20, seed=1, far=True)[0]
    return Features.concat([near, far])


# ------------------------------------------------------------------------- the formulas, one row at a time


def softmax(values):
    odds = [math.exp(value - max(values)) for value in values]
    return np.array(odds) / sum(odds)


def energy(logits):
    return -math.log(sum(math.exp(value) for value in logits))


def largest(h, percentile):
    count = len(h) - round(len(h) * percentile / 100)
    return np.argsort(-h, kind="stable")[:count]


def temp_scale(fit, row):
    def loss(t):
        return -sum(math.log(softmax(x / t)[y]) for x, y in zip(fit.logits, fit.labels, strict=True))

    best = minimize_scalar(loss, bounds=(0.1, 20.0), method="bounded", options={"xatol": 1e-9}).x
    return 1 - softmax(row.logits / best).max()


def ash(fit, row):
    kept = np.zeros_like(row.h)
    chosen = largest(row.h, 80)
    kept[chosen] = row.h.sum() / len(chosen)
    return energy(W @ kept + B)


def she(fit, row):
    c = row.logits.argmax()
    rows = [h for h, x, y in zip(fit.h, fit.logits, fit.labels, strict=True) if y == c == x.argmax()]
    return -np.dot(row.h, np.mean(rows, axis=0))


def grad_norm(fit, row):
    weight = torch.tensor(W, requires_grad=True)
    logits = weight @ torch.tensor(row.h) + torch.tensor(B)
    (-torch.log_softmax(logits, 0)).sum().backward()
    return -float(weight.grad.abs().sum())


def knn(fit, row):
    unit = [h / np.linalg.norm(h) for h in fit.h]
    return sorted(np.linalg.norm(row.h / np.linalg.norm(row.h) - other) for other in unit)[4]


def gaussian(h, rows, labels):
    means = {c: rows[labels == c].mean(axis=0) for c in set(labels.tolist())}
    scatter = sum(np.outer(x - means[int(c)], x - means[int(c)]) for x, c in zip(rows, labels, strict=True))
    inverse = np.linalg.inv(scatter / len(rows))
    return min((h - mean) @ inverse @ (h - mean) for mean in means.values())


def relative(fit, row):
    return gaussian(row.h, fit.h, fit.labels) - gaussian(row.h, fit.h, np.zeros(len(fit.h), dtype=int))


def vim(fit, row):
    origin = -np.linalg.pinv(W) @ B
    _, _, directions = np.linalg.svd(fit.h - origin)
    outside = directions[4:]
    residuals = [np.linalg.norm(outside @ (h - origin)) for h in fit.h]
    weight = np.mean([x.max() for x in fit.logits]) / np.mean(residuals)
    return weight * np.linalg.norm(outside @ (row.h - origin)) + energy(row.logits)


def fdbd(fit, row):
    c = row.logits.argmax()
    apart = [(row.logits[c] - row.logits[j]) / np.linalg.norm(W[c] - W[j]) for j in range(4) if j != c]
    return -np.mean(apart) / np.linalg.norm(row.h - fit.h.mean(axis=0))


def nac(fit, row):
    layers = []
    for part, slope, enough in ((slice(0, 6), 2.0, 3), (slice(6, 18), 5.0, 9)):
        covered = []
        for known, value in zip(fit.saliency[:, part].T, row.saliency[part], strict=True):
            state = 1 / (1 + math.exp(-slope * value))
            mates = sum(int(7 / (1 + math.exp(-slope * x))) == int(7 * state) for x in known)
            covered.append(min(mates / enough, 1))
        layers.append(np.mean(covered))
    return 1 - np.mean(layers)


REFERENCE = {
    "msp": lambda fit, row: 1 - softmax(row.logits).max(),
    "max-logit": lambda fit, row: -row.logits.max(),
    "energy": lambda fit, row: energy(row.logits),
    "temp-scale": temp_scale,
    "odin": lambda fit, row: 1 - softmax(row.logits / 10).max(),
    "gen": lambda fit, row: sum(p**0.3 * (1 - p) ** 0.3 for p in sorted(softmax(row.logits))[-3:]),
    "react": lambda fit, row: energy(W @ np.minimum(row.h, np.percentile(fit.h, 85)) + B),
    "dice": lambda fit, row: energy(
        np.where(W * fit.h.mean(0) > np.percentile(W * fit.h.mean(0), 50), W, 0) @ row.h + B
    ),
    "ash-b": ash,
    "scale": lambda fit, row: energy(
        W @ (row.h * math.exp(row.h.sum() / row.h[largest(row.h, 85)].sum())) + B
    ),
    "she": she,
    "grad-norm": grad_norm,
    "knn": knn,
    "mahalanobis": lambda fit, row: gaussian(row.h, fit.h, fit.labels),
    "relative-mahalanobis": relative,
    "vim": vim,
    "fdbd": fdbd,
    "nac-ue": nac,
}


class Plain:
    """Features as NumPy arrays in float64, all rows or one."""

    def __init__(self, features, labels=None):
        self.h = features.penultimate.double().numpy()
        self.logits = features.logits.double().numpy()
        self.saliency = features.saliency.double().numpy()
        self.labels = None if labels is None else labels.numpy()

    def row(self, i):
        one = object.__new__(Plain)
        one.h, one.logits, one.saliency = self.h[i], self.logits[i], self.saliency[i]
        return one


@pytest.mark.parametrize("name", REFERENCE)
def test_equals_the_formula(name, fitted, queries):
    detector = build_detector(name, head=HEAD, **OPTIONS.get(name, {}))
    found = detector.score(detector.fit(*fitted), queries)
    fit, rows = Plain(*fitted), Plain(queries)
    expected = [REFERENCE[name](fit, rows.row(i)) for i in range(len(queries))]
    assert found.tolist() == pytest.approx(expected, rel=2e-5, abs=1e-6)


# ----------------------------------------------------------------------------------------------- by hand


def features(penultimate, logits=None, saliency=None):
    h = torch.tensor(penultimate, dtype=torch.float32)
    given = torch.zeros(len(h), 2) if logits is None else torch.tensor(logits, dtype=torch.float32)
    parts = h if saliency is None else torch.tensor(saliency, dtype=torch.float32)
    return Features(parts, (("a", parts.shape[1]),), h, given)


def score(name, fit, labels, rows, **options):
    detector = build_detector(name, **options)
    return detector.score(detector.fit(fit, torch.tensor(labels)), rows).tolist()


def test_logits_by_hand():
    fit = features([[0.0], [0.0]], [[0.0, 0.0], [0.0, 0.0]])
    row = features([[0.0]], [[math.log(3.0), 0.0]])  # probabilities 3/4 and 1/4
    expected = {"msp": 0.25, "max-logit": -math.log(3), "energy": -math.log(4)}
    for name, value in expected.items():
        assert score(name, fit, [0, 1], row) == pytest.approx([value], rel=1e-6)
    assert score("gen", fit, [0, 1], row, gamma=0.5) == pytest.approx([2 * math.sqrt(3) / 4], rel=1e-6)
    assert score("grad-norm", fit, [0, 1], features([[2.0]], [[math.log(3.0), 0.0]])) == pytest.approx([-2.0])


def test_reshaped_activations_by_hand():
    head = Head(torch.eye(4), torch.zeros(4))
    h = [[4.0, 3.0, 2.0, 1.0]]
    fit = features(h, [[0.0] * 4])
    row = features(h, [[0.0] * 4])
    clipped = [3.25, 3, 2, 1]  # the 75th percentile of 1, 2, 3, 4 is 3.25
    assert score("react", fit, [0], row, head=head, percentile=75.0) == pytest.approx([energy(clipped)])
    assert score("ash-b", fit, [0], row, head=head, percentile=50.0) == pytest.approx([energy([5, 5, 0, 0])])
    stretched = [value * math.exp(10 / 7) for value in h[0]]
    assert score("scale", fit, [0], row, head=head, percentile=50.0) == pytest.approx([energy(stretched)])


def test_distances_by_hand():
    fit = features([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    row = features([[5.0, 0.0], [0.0, 0.0]])
    assert score("knn", fit, [0, 0, 1], row, k=1) == [0.0, 1.0]  # a row of zeros stays where it is
    assert score("knn", fit, [0, 0, 1], row, k=3) == pytest.approx([math.sqrt(2), 1.0])
    assert score("knn", fit, [0, 0, 1], row, k=9) == pytest.approx([math.sqrt(2), 1.0])
    # Means (0, 0) and (4, 0), shared variances 1 and 4.
    gaussians = features([[-1.0, 2.0], [1.0, -2.0], [3.0, -2.0], [5.0, 2.0]])
    labels, rows = [0, 0, 1, 1], features([[2.0, 0.0], [4.0, 6.0]])
    assert score("mahalanobis", gaussians, labels, rows) == pytest.approx([4.0, 9.0])
    # All together: mean (2, 0), variances 5 and 4.
    assert score("relative-mahalanobis", gaussians, labels, rows) == pytest.approx(
        [4.0, 9 - 0.8 - 9], abs=1e-5
    )


def test_temperature_has_a_known_answer():
    """Three of four labels agree with a logit difference of two: the likeliest temperature makes that 3 to 1."""
    fit = features([[0.0]] * 4, [[2.0, 0.0]] * 4)
    detector = build_detector("temp-scale")
    assert detector.fit(fit, torch.tensor([0, 0, 0, 1])) == pytest.approx(2 / math.log(3), rel=1e-9)
    assert detector.fit(fit, torch.tensor([0, 0, 0, 0])) == pytest.approx(
        0.1
    )  # all right: as sure as allowed
    assert detector.fit(fit, torch.tensor([1, 1, 1, 1])) == pytest.approx(100.0)


def test_coverage_by_hand():
    saliency = [[0.0], [0.0], [10.0]]
    fit = features(saliency, saliency=saliency)
    rows = features([[0.0]] * 3, saliency=[[0.0], [10.0], [-10.0]])
    assert score("nac-ue", fit, [0, 0, 1], rows, bins=4, enough=2) == [0.0, 0.5, 1.0]


def test_sure_rows_still_differ():
    """Both have a largest probability of exactly one in float64."""
    fit = features([[0.0]], [[0.0, 0.0]])
    rows = features([[0.0], [0.0]], [[40.0, 0.0], [50.0, 0.0]])
    sure, surer = score("msp", fit, [0], rows)
    assert sure > surer > 0


# ---------------------------------------------------------------------------------------------- oracles


def oracles(fit, labels, rows):
    """Detectors of pytorch-ood on the same features: name to scores, times what they leave out as constant."""
    from pytorch_ood.detector import (
        DICE,
        GEN,
        KNN,
        RMD,
        SHE,
        EnergyBased,
        Mahalanobis,
        MaxLogit,
        MaxSoftmax,
        ReAct,
        ViM,
        fDBD,
    )
    from pytorch_ood.detector.ash import ash_b
    from pytorch_ood.detector.scale import scale

    h, known = rows.penultimate, fit.penultimate
    weight, bias = HEAD.weight, HEAD.bias
    linear = torch.nn.Linear(*weight.T.shape)
    with torch.no_grad():
        linear.weight.copy_(weight), linear.bias.copy_(bias)

    def by(detector):
        return detector.fit_features(known, labels).predict_features(h)

    def reshaped(function, percentile):
        return EnergyBased.score(function(h[:, :, None, None], percentile)[:, :, 0, 0] @ weight.T + bias)

    react = ReAct(None, linear, percentile=0.85)
    react.fit_feature_maps(known, labels)
    return {
        "msp": 1 + MaxSoftmax.score(rows.logits),
        "max-logit": MaxLogit.score(rows.logits),
        "energy": EnergyBased.score(rows.logits),
        "gen": 3 * GEN.score(rows.logits, gamma=0.3, M=3),
        "react": react.predict_feature_maps(h),
        "dice": by(DICE(None, weight, bias, p=0.5)),
        "ash-b": reshaped(ash_b, 0.8),
        "scale": reshaped(scale, 0.85),
        "she": by(SHE(None, linear)),
        "knn": by(KNN(None, k=5)),
        "mahalanobis": 2 * len(known) * by(Mahalanobis(None)),
        "relative-mahalanobis": len(known) * by(RMD(None)),
        "vim": by(ViM(None, 4, weight, bias)),
        "fdbd": by(fDBD(None, linear)),
    }


ORACLES = (
    "msp", "max-logit", "energy", "gen", "react", "dice", "ash-b", "scale", "she", "knn",
    "mahalanobis", "relative-mahalanobis", "vim", "fdbd",
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs(fitted, queries):
    pytest.importorskip("pytorch_ood")
    return oracles(*fitted, queries)


@pytest.mark.parametrize("name", ORACLES)
def test_equals_pytorch_ood(name, fitted, queries, theirs):
    detector = build_detector(name, head=HEAD, **OPTIONS.get(name, {}))
    ours, other = detector.score(detector.fit(*fitted), queries), theirs[name].detach()
    assert spearmanr(ours, other).statistic == pytest.approx(1.0, abs=1e-9)
    assert ours.tolist() == pytest.approx(other.tolist(), rel=1e-3, abs=1e-4)


# -------------------------------------------------------------------------------------------------- ODIN


@pytest.fixture(scope="module")
def net():
    return build_model("resnet10_w16", 3, seed=0).eval()


def test_odin_moves_pixels_as_pytorch_ood_does(net):
    preprocessing = pytest.importorskip("pytorch_ood.detector.odin").odin_preprocessing
    net = copy.deepcopy(net).double()  # whose ReLUs open alike in both
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    std = [0.2, 0.25, 0.3]
    expected = preprocessing(net, images, eps=0.0014, temperature=1000.0, norm_std=std)
    moved = OdinDetector(std=tuple(std)).perturb(net, images)
    # Gradients that vanish next to rounding may change their sign; nothing else may differ.
    assert float((moved - expected).abs().gt(1e-6).double().mean()) < 0.01


def test_odin_images_do_not_depend_on_their_company(net):
    images = torch.randn(34, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    detector = OdinDetector(temperature=10.0)
    whole = detector.perturb(net, images)
    assert torch.equal(torch.cat([detector.perturb(net, part) for part in images.split(17)]), whole)
    assert not net.training and all(parameter.requires_grad for parameter in net.parameters())
    with torch.inference_mode():
        assert torch.equal(detector.perturb(net, images[:3]), whole[:3])
    assert detector.perturb(net, images[:0]).shape == (0, 3, 6, 6)
    assert torch.equal(OdinDetector(noise=0.0).perturb(net, images), images)


def test_odin_end_to_end(net):
    """A step towards the predicted class makes the net surer of it."""
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    detector = OdinDetector(temperature=10.0, noise=0.01)
    layers = auto_layers(net)
    before, after = (extract(net, x, layers) for x in (images, detector.perturb(net, images)))
    assert bool((detector.score((), after) < detector.score((), before)).all())
    with pytest.raises(errors.ShapeMismatch):
        OdinDetector(std=(1.0, 1.0)).perturb(net, images)


def test_the_head_is_the_last_linear_layer(net):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    found = extract(net, images)
    logits = Head.of(net).logits(found.penultimate.double())
    assert torch.allclose(logits.float(), found.logits, atol=1e-5)
    with pytest.raises(errors.LayerError):
        Head.of(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(errors.NonFinite):
        Head(torch.full((3, 2), torch.nan), torch.zeros(3))


# ------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("knn", {"k": 0}),
        ("gen", {"gamma": 0.0}),
        ("gen", {"largest": 0}),
        ("react", {"percentile": 101.0}),
        ("scale", {"percentile": -1.0}),
        ("dice", {"percentile": 100.0}),
        ("vim", {"dim": -1}),
        ("odin", {"temperature": 0.0}),
        ("odin", {"noise": -1.0}),
        *(("odin", {"std": std}) for std in (0.0, -1.0, True, "abc", math.nan, math.inf, (0.2, 0.0, 0.3))),
    ],
)
def test_impossible_options(name, options):
    with pytest.raises(errors.InputError):
        build_detector(name, head=HEAD, **options)


def test_nac_options_by_layer(fitted):
    with pytest.raises(errors.InputError, match="layer 'avgpool'"):
        build_detector("nac-ue", bins={"layer3": 5}).fit(*fitted)
    detector = build_detector("nac-ue", bins={"layer3": 5, "avgpool": 9})
    with pytest.raises(errors.ShapeMismatch, match="layer3"):
        detector.score(detector.fit(*fitted), features([[0.0]], saliency=[[0.0]]))


@pytest.mark.parametrize(
    "name", ["react", "ash-b", "dice", "fdbd", "vim", "knn", "mahalanobis", "relative-mahalanobis", "she"]
)
def test_features_and_heads_of_other_nets_are_refused(name, fitted):
    detector = build_detector(name, head=HEAD)
    with pytest.raises(errors.ShapeMismatch):
        detector.score(detector.fit(*fitted), features([[0.0]], [[0.0] * 4]))
    if "head" in detector.needs:
        with pytest.raises(errors.ShapeMismatch, match="a head of shape"):
            build_detector(name, head=Head(torch.zeros(4, 3), torch.zeros(4))).fit(*fitted)


def test_the_energy_is_that_of_the_scores(fitted, queries):
    bank = fit_bank(*fitted, slopes=1.0)
    assert torch.equal(build_detector("energy").score((), queries), bank_score(bank, queries).energy)


def test_sweeps_choose_the_best_option(fitted):
    validation = {
        "known": open_world.make(40, seed=8, noise=2.0)[0],
        "unknown": open_world.make(40, seed=8, far=True, noise=2.0)[0],
    }
    labeled = Labeled(*fitted, fitted[0].logits.shape[1])
    sweep = {"k": (1, 5, 59)}
    options, best = search_options("knn", labeled, **validation, sweep=sweep)
    by_hand = {}
    for k in sweep["k"]:
        detector = KnnDetector(k=k)
        state = detector.fit(*fitted)
        by_hand[k] = metrics.auroc(*(detector.score(state, part) for part in validation.values()))
    assert best == max(by_hand.values()) and options == {"k": max(by_hand, key=by_hand.get)}
    # Equal candidates: the first. All of these are the farthest fitted row.
    assert search_options("knn", labeled, **validation, sweep={"k": (90, 60, 75)})[0] == {"k": 90}
    chosen, value = search_options("vim", labeled, **validation, head=HEAD)
    assert chosen["dim"] in SWEEPS["vim"]["dim"] and 0 <= value <= 1
    for name, fields in SWEEPS.items():
        for field, values in fields.items():
            assert all(getattr(build_detector(name, **{field: value}), field) == value for value in values)
    with pytest.raises(errors.InputError, match="images"):
        search_options("odin", labeled, **validation)
    with pytest.raises(errors.InputError, match="no sweep"):
        search_options("energy", labeled, **validation)
