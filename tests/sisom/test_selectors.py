"""Each selector by hand, against a slow independent version, and against scikit-activeml."""

import math
from dataclasses import replace

import numpy as np
import open_world
import pytest
import torch
from scipy.stats import chisquare

from sisom import SELECTORS, Candidates, Features, Head, Labeled, build_selector, errors, fit_bank, greedy
from sisom.selectors.badge import BadgeBlock, Gradients
from sisom.selectors.blocks import Race, pick_greedily
from sisom.selectors.clusters import kmeans
from sisom.selectors.committee import ensemble_votes
from sisom.selectors.coreset import KCenterBlock

NOTHING = Labeled(None, torch.empty(0, dtype=torch.int64), 4)


def features(penultimate, logits=None):
    h = torch.as_tensor(penultimate, dtype=torch.float32)
    given = torch.zeros(len(h), 2) if logits is None else torch.as_tensor(logits, dtype=torch.float32)
    return Features(torch.zeros(len(h), 0), (), h, given)


def rows(penultimate, logits=None, ids=None):
    found = features(penultimate, logits)
    return Candidates(ids or [f"{i:04d}" for i in range(len(found))], features=found)


def known(penultimate, labels, classes=2):
    return Labeled(features(penultimate, torch.zeros(len(labels), classes)), torch.tensor(labels), classes)


def gaussian(n, width, seed):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def picks(name, pool, labeled=NOTHING, k=1, seed=0, **options):
    return SELECTORS[name](**options).select(pool, labeled, k, seed=seed).tolist()


# ------------------------------------------------------------------------------------- uncertainty, committees


def test_uncertainty_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.45, 0.44, 0.11], [0.9, 0.05, 0.05], [0.4, 0.3, 0.3]])
    pool = rows(torch.zeros(4, 1), probabilities.log())
    one = {
        name: SELECTORS[name]().priority_of(pool, seed=0).tolist()
        for name in ("least-confidence", "margin", "entropy")
    }
    assert one["least-confidence"] == pytest.approx([0.5, 0.55, 0.1, 0.6], rel=1e-6)
    assert one["margin"] == pytest.approx([-0.25, -0.01, -0.85, -0.1], rel=1e-5)
    by_hand = [-sum(p * math.log(p) for p in row) for row in probabilities.tolist()]
    assert one["entropy"] == pytest.approx(by_hand, rel=1e-6)
    assert picks("margin", pool, k=2) == [1, 3]


def test_one_class_has_no_doubt():
    pool = rows(torch.zeros(3, 1), torch.zeros(3, 1))
    for name, value in {"least-confidence": 0.0, "margin": -1.0, "entropy": 0.0}.items():
        assert SELECTORS[name]().priority_of(pool, seed=0).tolist() == [value] * 3


def test_committees_by_hand():
    committee = torch.tensor(
        [
            [[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]],
            [[0.0, 1.0], [0.5, 0.5], [0.6, 0.4]],
        ]
    )
    pool = Candidates(["a", "b", "c"], committee=committee)
    assert SELECTORS["qbc-vote"]().priority_of(pool, seed=0).tolist() == pytest.approx([math.log(2), 0, 0])
    mean = [0.75, 0.25]
    divergence = sum(
        sum(p * math.log(p / q) for p, q in zip(member, mean, strict=True))
        for member in ([0.9, 0.1], [0.6, 0.4])
    )
    expected = [math.log(2), 0, divergence / 2]
    for name in ("bald", "qbc-kl"):
        assert SELECTORS[name]().priority_of(pool, seed=0).tolist() == pytest.approx(expected, abs=1e-7)
    assert (SELECTORS["bald"]().committee, SELECTORS["qbc-kl"]().committee) == ("dropout", "ensemble")
    levelled = [
        build_selector("class-balanced", of=name).committee for name in ("bald", "qbc-vote", "margin")
    ]
    assert levelled == ["dropout", "ensemble", None]
    with pytest.raises(errors.NonFinite):
        SELECTORS["bald"]().priority_of(replace(pool, committee=-committee), seed=0)


def test_an_ensembles_votes_by_hand_and_row_by_row():
    logits = [torch.tensor([[0.0, math.log(3)], [math.log(9), 0.0]]), torch.zeros(2, 2)]
    votes = ensemble_votes(logits)
    assert votes.dtype == torch.float32
    hand = [[[0.25, 0.75], [0.9, 0.1]], [[0.5, 0.5], [0.5, 0.5]]]
    assert torch.allclose(votes, torch.tensor(hand))
    many = [gaussian(37, 10, 1), gaussian(37, 10, 2)]
    alone = torch.cat([ensemble_votes([each[i : i + 1] for each in many]) for i in range(37)], dim=1)
    assert torch.equal(ensemble_votes(many), alone)


# ------------------------------------------------------------------------------------------------- CoreSet


def farthest_first(pool, centers, k):
    """The plain loop, in float64."""
    near = np.min([np.linalg.norm(pool - center, axis=1) for center in centers], axis=0)
    chosen = []
    for _ in range(k):
        best = int(np.argmax(near))
        chosen.append(best)
        near = np.minimum(near, np.linalg.norm(pool - pool[best], axis=1))
        near[best] = -1
    return chosen


def test_coreset_by_hand():
    pool = rows([[0.0], [1.0], [9.0], [4.0], [5.0]])
    assert picks("coreset", pool, known([[0.0]], [0]), k=5) == [2, 3, 1, 4, 0]  # 4 before 5: the lower id


@pytest.mark.parametrize("width", [2, 30])
def test_coreset_equals_the_plain_loop(width):
    pool, labeled = gaussian(400, width, 0), gaussian(30, width, 1)
    found = picks("coreset", rows(pool), known(labeled, [0] * 30), k=60)
    assert found == farthest_first(pool.double().numpy(), labeled.double().numpy(), 60)


def test_coreset_equals_scikit_activeml():
    core_set = pytest.importorskip("skactiveml.pool").CoreSet
    pool, labeled = gaussian(300, 16, 2), gaussian(20, 16, 3)
    x = torch.cat([labeled, pool]).numpy()
    y = np.r_[np.zeros(20), np.full(300, np.nan)]
    theirs = core_set(random_state=0).query(x, y, batch_size=40) - 20
    assert picks("coreset", rows(pool), known(labeled, [0] * 20), k=40) == theirs.tolist()


def test_coreset_without_labels_starts_at_random():
    pool = rows(gaussian(50, 3, 4))
    first = {picks("coreset", pool, k=1, seed=seed)[0] for seed in range(40)}
    assert len(first) > 15
    for seed in range(3):
        found = picks("coreset", pool, k=8, seed=seed)
        h = pool.features.penultimate.double().numpy()
        assert found[1:] == farthest_first(h, h[found[:1]], 8)[:7]


@pytest.mark.parametrize("cut", [3, 7])
@pytest.mark.parametrize("labels", [0, 12])
def test_coreset_in_blocks_picks_the_same(cut, labels):
    pool, centers = gaussian(500, 20, 5), gaussian(labels, 20, 6) if labels else None
    pool[100:120] = pool[7]  # copies
    whole = KCenterBlock([f"{i:04d}" for i in range(500)], pool, centers, seed=3)
    expected = [row for _, row in pick_greedily([whole], 35)]
    places = [list(range(start, 500, cut)) for start in range(cut)]
    blocks = [KCenterBlock([f"{i:04d}" for i in place], pool[place], centers, seed=3) for place in places]
    found = [places[block][row] for block, row in pick_greedily(blocks, 35)]
    assert found == expected
    for place, block in zip(places, blocks, strict=True):
        assert torch.equal(block.distances, whole.distances[place])


def test_labels_at_once_or_one_by_one_are_the_same():
    """The search by matrix products and the pairs measured one by one agree to the last bit."""
    pool, centers = gaussian(200, 33, 7), gaussian(9, 33, 8)
    ids = [f"{i:04d}" for i in range(200)]
    at_once, one_by_one = (KCenterBlock(ids, pool, given, seed=0) for given in (centers, None))
    for center in centers:
        one_by_one.add(type(one_by_one.points)(center[None]))
    assert torch.equal(at_once.distances, one_by_one.distances)


# --------------------------------------------------------------------------------------------------- BADGE


def embeddings(found):
    """The n x K p matrix that BADGE is about."""
    p = torch.softmax(found.logits.double(), dim=1)
    pull = p - torch.nn.functional.one_hot(p.argmax(1), p.shape[1])
    return (pull[:, :, None] * found.penultimate.double()[:, None, :]).flatten(1)


@pytest.fixture(scope="module")
def gradients():
    return features(gaussian(120, 5, 9), 2 * gaussian(120, 4, 10))


def test_badge_distances_are_those_of_the_outer_products(gradients):
    block = BadgeBlock([f"{i:04d}" for i in range(120)], Gradients.of(gradients), seed=0)
    full = embeddings(gradients)
    first = block.farthest().row
    assert first == int(full.norm(dim=1).argmax())
    block.add(block.take(first))
    taken = [first]
    for _ in range(5):
        taken.append(block.farthest().row)
        block.add(block.take(taken[-1]))
    assert len(set(taken)) == 6
    centers = full[taken]
    expected = torch.cdist(full, centers, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
    assert torch.allclose(block.distances, expected, rtol=1e-4, atol=1e-6)
    assert bool((block.distances[taken] == 0).all())
    while (pick := block.farthest()) is not None:
        taken.append(pick.row)
        block.add(block.take(pick.row))
    assert sorted(taken) == list(range(120)), "each once, then nobody is left"


@pytest.mark.parametrize("seed", range(5))
def test_badge_equals_the_race_over_all_distances(gradients, seed):
    """Every distance to every pick, from the outer products themselves, and the winner of each race."""
    ids = [f"{i:04d}" for i in range(120)]
    full, race = embeddings(gradients), Race(ids, seed)
    squared = torch.cdist(full, full, compute_mode="donot_use_mm_for_euclid_dist").square()
    expected = [int(full.norm(dim=1).argmax())]
    for step in range(1, 30):
        near = squared[:, expected].amin(1) * race.rates(step)
        near[expected] = -1
        expected.append(int(near.argmax()))
    assert picks("badge", Candidates(ids, features=gradients), k=30, seed=seed) == expected


def test_races_are_won_in_proportion_to_the_weights():
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 6.0])
    for step in (1, 2):
        won = [int((weights * Race("abcde", seed).rates(step)).argmax()) for seed in range(3000)]
        counts = np.bincount(won, minlength=5)
        assert counts[0] == 0
        assert chisquare(counts[1:], 3000 * (weights[1:] / 12).numpy()).pvalue > 1e-3


def test_badge_agrees_with_scikit_activeml(gradients):
    """The first pick, and the squared distances to it; theirs keeps the origin as a center, so the draws differ."""
    badge = pytest.importorskip("skactiveml.pool").Badge
    from skactiveml.base import SkactivemlClassifier

    class Fixed(SkactivemlClassifier):
        def __init__(self):
            super().__init__(classes=[0, 1, 2, 3])

        def fit(self, X, y):
            return self

        def predict_proba(self, X, with_embeddings=False):
            which = X[:, 0].astype(int)
            probabilities = torch.softmax(gradients.logits.double(), 1).numpy()[which]
            return (probabilities, gradients.penultimate.numpy()[which])

    x, y = np.arange(120.0)[:, None], np.full(120, np.nan)
    query = badge(random_state=0, clf_embedding_flag_name="with_embeddings").query
    chosen, chances = query(x, y, Fixed(), fit_clf=False, batch_size=2, return_utilities=True)
    block = BadgeBlock([f"{i:04d}" for i in range(120)], Gradients.of(gradients), seed=0)
    first = block.farthest().row
    assert first == int(chosen[0])
    lengths = block.points.squared
    block.add(block.take(first))
    ours = torch.minimum(lengths, block.distances)
    others = torch.arange(120) != first
    expected = torch.from_numpy(chances[1])[others]
    assert torch.allclose((ours / ours.sum())[others], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("cut", [3, 7])
def test_badge_in_blocks_picks_the_same(cut):
    found = features(gaussian(400, 9, 13), gaussian(400, 5, 14))
    found = found.select([*range(380), *[5] * 20])  # copies
    everything = Gradients.of(found)
    ids = [f"{i:04d}" for i in range(400)]
    expected = [row for _, row in pick_greedily([BadgeBlock(ids, everything, seed=2)], 40)]
    places = [list(range(start, 400, cut)) for start in range(cut)]
    blocks = [
        BadgeBlock([ids[i] for i in place], Gradients.of(found.select(place)), seed=2) for place in places
    ]
    assert [places[block][row] for block, row in pick_greedily(blocks, 40)] == expected


def test_blocks_want_their_ids_in_order():
    for ids in (["b", "a"], ["a", "a"]):
        with pytest.raises(errors.InputError, match="ascend"):
            KCenterBlock(ids, torch.zeros(2, 1), None, seed=0)


def test_badge_of_equal_rows_goes_by_id():
    pool = rows([[1.0, 2.0]] * 6, [[1.0, 0.0]] * 6, ids=list("fedcba"))
    assert picks("badge", pool, k=6) == [5, 4, 3, 2, 1, 0]


def test_races_are_exponential_and_independent():
    race = Race([str(i) for i in range(20000)], seed=0)
    first, second = 1 / race.rates(0), 1 / race.rates(1)
    for times in (first, second):
        assert float(times.min()) > 0
        assert float(times.mean()) == pytest.approx(1, abs=0.03) and float(times.var()) == pytest.approx(
            1, abs=0.08
        )
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03


# ----------------------------------------------------------------------------------- clusters and coverage


def test_kmeans_finds_what_is_there():
    centers = 10 * gaussian(5, 4, 15)
    truth = torch.arange(200) % 5
    points = centers[truth] + 0.3 * gaussian(200, 4, 16)
    for seed in range(3):
        found = kmeans(points, 5, seed=seed)
        pairs = {(int(a), int(b)) for a, b in zip(truth, found, strict=True)}
        assert len(pairs) == 5
    assert int(kmeans(torch.ones(9, 3), 4, seed=0).max()) == 0


def test_typiclust_takes_the_middle_of_each_large_cluster_without_labels():
    angle = torch.tensor([0.0] * 7 + [1.0] * 9 + [2.0] * 8)
    angle += torch.cat([0.1 * torch.linspace(-1, 1, n) ** 3 for n in (7, 9, 8)])
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    # One cluster a label or pick: three of them. The cluster at 2.0 has a label.
    labeled = known([[math.cos(2.0), math.sin(2.0)]], [0])
    found = picks("typiclust", rows(points), labeled, k=2, neighbors=3)
    assert found == [11, 3]  # the larger one first, then the other; the middle of each


def test_typiclust_goes_on_when_clusters_are_used_up():
    pool = rows(gaussian(30, 4, 17))
    found = picks("typiclust", pool, k=30, most=3)
    assert sorted(found) == list(range(30))


def greedy_cover(points, centers, radius, k):
    """Greedy maximum coverage with the whole graph in memory."""
    unit = lambda x: x / x.norm(dim=1, keepdim=True)  # noqa: E731
    everything = unit(torch.cat([points, centers]).double())
    near = torch.cdist(everything, everything, compute_mode="donot_use_mm_for_euclid_dist") < radius
    left = ~near[len(points) :].any(0)
    chosen = []
    for _ in range(k):
        gain = (near[: len(points)] & left).sum(1)
        if int(gain.max()) == 0:
            break
        chosen.append(int(gain.argmax()))
        left &= ~near[chosen[-1]]
    return chosen


@pytest.mark.parametrize("radius", [0.3, 0.75])
def test_prob_cover_equals_greedy_coverage(radius):
    points, centers = gaussian(300, 4, 18), gaussian(10, 4, 19)
    expected = greedy_cover(points, centers, radius, 25)
    found = picks("prob-cover", rows(points), known(centers, [0] * 10), k=25, radius=radius)
    assert found[: len(expected)] == expected
    assert len(set(found)) == 25


# ------------------------------------------------------------------------------------- boundaries, density


def test_base_by_hand():
    logits = [[3.0, 2.0, 0.0], [3.0, 0.0, 2.5], [0.0, 5.0, 1.0], [0.0, 1.0, 4.0], [9.0, 0.0, 0.0]]
    # Distances to class 0: 1, .5, 5, 4, 9; to 1: 1, 3, 4, 3, 9; to 2: 3, .5, 4, 3, 9.
    assert picks("base", rows(torch.zeros(5, 1), logits), k=3) == [1, 0, 3]
    assert picks("base", rows(torch.zeros(5, 1), logits), k=5) == [1, 0, 3, 2, 4]
    # Weights ten times as far apart bring class 1 near for rows of class 0.
    head = Head(torch.tensor([[0.0, 0.0], [0.0, 10.0], [1.0, 0.0]]), torch.zeros(3))
    assert picks("base", rows(torch.zeros(5, 2), logits), k=1, head=head) == [0]


def test_base_with_a_head_measures_in_feature_space():
    h, head = gaussian(40, 6, 20), Head(gaussian(3, 6, 21), gaussian(3, 1, 22)[:, 0])
    logits = head.logits(h.double()).float()
    found = picks("base", rows(h, logits), k=6, head=head)
    w, expected = head.weight.double(), []
    for c in range(3):

        def distance(i, c=c):
            top = int(logits[i].argmax())
            to = lambda j: float((logits[i, top] - logits[i, j]) / (w[top] - w[j]).norm())  # noqa: E731
            return min(to(j) for j in range(3) if j != top) if top == c else to(c)

        order = sorted((i for i in range(40) if i not in expected), key=distance)
        expected += order[:2]
    assert found == expected


def test_information_density_equals_all_pairs():
    h, logits = gaussian(30, 3, 23).abs(), gaussian(30, 3, 24)
    unit = h.double() / h.double().norm(dim=1, keepdim=True)
    p = torch.softmax(logits.double(), 1)
    worth = -(p * p.log()).sum(1) * (unit @ unit.T).mean(1) ** 2
    found = picks("information-density", rows(h, logits), k=30, beta=2.0)
    assert found == worth.argsort(descending=True).tolist()


def test_class_balanced_wraps_any_ranking():
    logits = [[9.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 3.0]]
    pool = rows(torch.zeros(5, 1), logits)
    one = Labeled(None, torch.tensor([0, 0]), 2)
    balanced = {"of": SELECTORS["entropy"]()}
    assert SELECTORS["class-balanced"](**balanced).needs == {"features", "labeled"}
    assert SELECTORS["class-balanced"]().needs == {"scores", "labeled"}
    assert picks("class-balanced", pool, one, k=5, **balanced) == [4, 3, 1, 2, 0]


def test_sisome_greedy_is_the_library_function():
    pool, labeled = open_world.make_pool(), open_world.make_labeled()
    bank = fit_bank(labeled.features, labeled.labels, slopes=1.0)
    expected = greedy(bank, pool.features, pool.ids, k=9)[0].tolist()
    assert picks("sisome-greedy", pool, labeled, k=9) == expected
    with pytest.raises(errors.EmptyInput):
        picks("sisome-greedy", pool, Labeled(labeled.features.select([]), labeled.labels[:0], 4), k=1)


@pytest.mark.parametrize(
    ("name", "options"),
    [("prob-cover", {"radius": 0.0}), ("typiclust", {"most": 0}), ("typiclust", {"small": -1})],
)
def test_impossible_options(name, options):
    with pytest.raises(errors.InputError):
        SELECTORS[name](**options)
