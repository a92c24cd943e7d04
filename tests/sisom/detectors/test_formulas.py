"""Detectors against their formulas one row at a time, and against pytorch-ood."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr

from sisom import (
    Features,
    build_detector,
)
from tests.support import open_world
from tests.support.detector_rows import energy

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
