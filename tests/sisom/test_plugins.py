"""What every detector and every selector of the catalogue must do; a new name inherits all of it."""

import pickle

import pytest
import torch

from sisom import DETECTORS, SELECTORS, Features, Scores, errors, fit_bank, score, selectors


@pytest.fixture(params=sorted(DETECTORS))
def detector(request):
    return DETECTORS[request.param]()


@pytest.fixture(params=sorted(SELECTORS))
def selector(request):
    return SELECTORS[request.param]()


def names(n):
    return [f"image-{(i * 7919) % n:04d}" for i in range(n)]  # ids are not positions


@pytest.fixture
def pool(make):
    fit, labels = make(60)
    features, _ = make(40, seed=1, spread=2.0)
    return names(40), score(fit_bank(fit, labels, slopes=1.0), features)


class TestDetectors:
    def test_shape_type_and_finite(self, detector, make):
        fit, labels = make(60)
        found = detector.score(detector.fit(fit, labels), make(17, seed=1)[0])
        assert found.shape == (17,) and found.dtype == torch.float32 and bool(torch.isfinite(found).all())

    def test_far_is_stranger_than_near(self, detector, make):
        fit, labels = make(60)
        state = detector.fit(fit, labels)
        sure = Features(
            fit.saliency, fit.layer_dims, fit.penultimate, 9.0 * torch.nn.functional.one_hot(labels, 4)
        )
        # Halfway between two classes, with logits that know nothing.
        lost = Features(
            fit.saliency.mean(0, keepdim=True).expand(8, -1),
            fit.layer_dims,
            fit.penultimate[:8],
            torch.zeros(8, 4),
        )
        near, far = detector.score(state, sure), detector.score(state, lost)
        assert float(far.mean()) > float(near.mean())

    @pytest.mark.parametrize("cut", [1, 7, 16])
    def test_cuts_and_order_change_no_bit(self, detector, make, cut):
        fit, labels = make(60)
        rows, _ = make(40, seed=1)
        state = detector.fit(fit, labels)
        whole = detector.score(state, rows)
        parts = [detector.score(state, rows.select(slice(s, s + cut))) for s in range(0, 40, cut)]
        assert torch.equal(torch.cat(parts), whole)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        assert torch.equal(detector.score(state, rows.select(order)), whole[order])

    def test_state_and_detector_survive_pickling(self, detector, make):
        fit, labels = make(60)
        rows, _ = make(9, seed=1)
        state = detector.fit(fit, labels)
        other, state_too = pickle.loads(pickle.dumps((detector, state)))
        assert torch.equal(other.score(state_too, rows), detector.score(state, rows))

    def test_inputs_are_left_alone(self, detector, make):
        fit, labels = make(60)
        before = fit.saliency.clone(), fit.logits.clone(), labels.clone()
        detector.score(detector.fit(fit, labels), fit)
        assert all(torch.equal(a, b) for a, b in zip(before, (fit.saliency, fit.logits, labels), strict=True))

    def test_an_empty_labeled_set_raises_by_name(self, detector, make):
        fit, labels = make(60)
        with pytest.raises(errors.EmptyInput):
            detector.fit(fit.select([]), labels[:0])


class TestSelectors:
    def test_one_finite_priority_a_row(self, selector, pool):
        ids, scores = pool
        found = selector.priority(ids, scores, seed=0)
        assert found.shape == (40,) and found.dtype == torch.float64 and bool(torch.isfinite(found).all())

    @pytest.mark.parametrize("k", [0, 1, 5, 40])
    def test_exactly_k_unique_rows(self, selector, pool, k):
        ids, scores = pool
        rows = selectors.top(ids, selector.priority(ids, scores, seed=0), k)
        assert len(rows) == len(set(rows.tolist())) == k

    def test_too_large_a_budget(self, selector, pool):
        ids, scores = pool
        with pytest.raises(errors.BudgetTooLarge, match="41 of 40"):
            selectors.top(ids, selector.priority(ids, scores, seed=0), 41)

    def test_same_seed_same_picks(self, selector, pool):
        ids, scores = pool
        one, two = (selector.priority(ids, scores, seed=5) for _ in range(2))
        assert torch.equal(one, two)

    @pytest.mark.parametrize("cut", [1, 7, 16])
    def test_a_streamed_top_k_over_any_cutting_picks_the_same(self, selector, pool, cut):
        ids, scores = pool
        whole = [ids[i] for i in selectors.top(ids, selector.priority(ids, scores, seed=2), 6)]
        order = torch.randperm(40, generator=torch.Generator().manual_seed(cut)).tolist()
        best = []
        for start in range(0, 40, cut):
            rows = order[start : start + cut]
            part = [ids[i] for i in rows]
            priority = selector.priority(part, scores.select(rows), seed=2)
            best += list(zip((-priority).tolist(), part, strict=True))
            best = sorted(best)[:6]
        assert [name for _, name in best] == whole

    def test_ids_that_do_not_fit(self, selector, pool):
        ids, scores = pool
        with pytest.raises(errors.ShapeMismatch):
            selector.priority(ids[:-1], scores, seed=0)


def test_scores_decide():
    value = lambda *v: torch.tensor(v)  # noqa: E731
    scores = Scores(
        predicted=torch.tensor([0, 0, 0]),
        inner=value(1.0, 1.0, 1.0),
        outer=value(1.0, 1.0, 1.0),
        ratio=value(3.0, 1.0, 2.0),
        energy=value(-1.0, -2.0, -0.5),
        sisom=value(3.0, 1.0, 2.0),
        sisome=value(0.1, 0.2, 0.3),
    )
    picks = {
        name: selectors.top("abc", SELECTORS[name]().priority("abc", scores, seed=0), 3).tolist()
        for name in ("sisom", "energy", "sisome")
    }
    assert picks == {"sisom": [0, 2, 1], "energy": [2, 0, 1], "sisome": [2, 1, 0]}


def test_ties_go_to_the_lower_id():
    priority = torch.tensor([1.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    assert selectors.top(["d", "c", "a", "b"], priority, 2).tolist() == [2, 3]


def test_priorities_that_cannot_rank():
    with pytest.raises(errors.NonFinite):
        selectors.top(["a"], torch.tensor([torch.nan], dtype=torch.float64), 1)
    with pytest.raises(errors.ShapeMismatch):
        selectors.top(["a", "b"], torch.zeros(1, dtype=torch.float64), 1)
    with pytest.raises(errors.BudgetTooLarge):
        selectors.top(["a"], torch.zeros(1, dtype=torch.float64), -1)


def test_random_draws_are_uniform_and_seeded(pool):
    ids = [str(i) for i in range(4000)]
    rows = pool[1].select([0] * 4000)
    draws = SELECTORS["random"]().priority(ids, rows, seed=1)
    assert float(draws.min()) >= 0 and float(draws.max()) < 1
    assert abs(float(draws.mean()) - 0.5) < 0.02
    assert not torch.equal(draws, SELECTORS["random"]().priority(ids, rows, seed=2))
