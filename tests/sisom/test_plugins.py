"""What every detector and every selector of the catalogue must do; a new name inherits all of it."""

import pickle
from dataclasses import replace

import pytest
import torch

from sisom import (
    DETECTORS,
    ROW_SELECTORS,
    SELECTORS,
    Candidates,
    Features,
    Labeled,
    build_detector,
    errors,
    metrics,
)
from tests.support import open_world

BY_SCORES = [name for name, make in ROW_SELECTORS.items() if make().needs <= {"scores"}]
WHOLE = sorted(set(SELECTORS) - set(ROW_SELECTORS))


@pytest.fixture(params=sorted(DETECTORS))
def detector(request):
    options = (
        {"k": 5} if request.param == "knn" else {}
    )  # the default looks beyond a class of this small world
    return build_detector(request.param, head=open_world.head(), **options)


@pytest.fixture(params=sorted(SELECTORS))
def selector(request):
    return SELECTORS[request.param]()


@pytest.fixture(params=sorted(ROW_SELECTORS))
def row_selector(request):
    return ROW_SELECTORS[request.param]()


@pytest.fixture(params=BY_SCORES)
def by_scores(request):
    return ROW_SELECTORS[request.param]()


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0)


@pytest.fixture(scope="module")
def pool():
    return open_world.make_pool()


@pytest.fixture(scope="module")
def labeled():
    return open_world.make_labeled()


def same_bits(features, other):
    parts = ("saliency", "penultimate", "logits")
    return all(torch.equal(getattr(features, part), getattr(other, part)) for part in parts)


def copy_of(features):
    return Features(
        features.saliency.clone(), features.layer_dims, features.penultimate.clone(), features.logits.clone()
    )


class TestDetectors:
    def test_shape_type_and_finite(self, detector, fitted):
        found = detector.score(detector.fit(*fitted), open_world.make(17, seed=1)[0])
        assert found.shape == (17,) and found.dtype == torch.float32 and bool(torch.isfinite(found).all())

    def test_far_is_stranger_than_near(self, detector, fitted):
        state = detector.fit(*fitted)
        near, far = (detector.score(state, open_world.make(40, seed=2, far=far)[0]) for far in (False, True))
        assert metrics.auroc(near, far) > 0.9

    @pytest.mark.parametrize("cut", [1, 7])
    def test_cuts_and_order_change_no_bit(self, detector, fitted, cut):
        rows = open_world.make(40, seed=1, noise=2.0)[0]
        state = detector.fit(*fitted)
        whole = detector.score(state, rows)
        parts = [detector.score(state, rows.select(slice(s, s + cut))) for s in range(0, 40, cut)]
        assert torch.equal(torch.cat(parts), whole)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        assert torch.equal(detector.score(state, rows.select(order)), whole[order])

    def test_state_and_detector_survive_pickling(self, detector, fitted):
        rows = open_world.make(9, seed=1)[0]
        state = detector.fit(*fitted)
        other, state_too = pickle.loads(pickle.dumps((detector, state)))
        assert torch.equal(other.score(state_too, rows), detector.score(state, rows))

    def test_inputs_are_left_alone(self, detector, fitted):
        features, labels = fitted
        before, labels_before = copy_of(features), labels.clone()
        detector.score(detector.fit(features, labels), features)
        assert same_bits(features, before) and torch.equal(labels, labels_before)

    def test_an_empty_labeled_set_raises_by_name(self, detector, fitted):
        features, labels = fitted
        with pytest.raises(errors.EmptyInput):
            detector.fit(features.select([]), labels[:0])

    def test_rows_that_are_not_finite_are_named(self, detector, fitted):
        features, labels = fitted
        broken = copy_of(features)
        broken.logits[7, 0] = torch.nan
        for use in (
            lambda: detector.fit(broken, labels),
            lambda: detector.score(detector.fit(*fitted), broken),
        ):
            with pytest.raises(errors.NonFinite) as caught:
                use()
            assert caught.value.rows == (7,)

    def test_zeros_copies_and_huge_rows_stay_finite(self, detector, fitted):
        dead = open_world.features_of(torch.zeros(6, open_world.WIDTH))
        copies = fitted[0].select([3] * 6)
        huge = open_world.features_of(1e6 * fitted[0].penultimate[:6])
        odd = Features.concat([dead, copies, huge])
        state = detector.fit(*fitted)
        assert bool(torch.isfinite(detector.score(state, odd)).all())
        # Fitted on copies of one row of each class: nothing varies within a class.
        few, labels = fitted[0].select([0, 1, 2, 3] * 3), fitted[1][[0, 1, 2, 3] * 3]
        assert bool(torch.isfinite(detector.score(detector.fit(few, labels), odd)).all())

    def test_one_class_is_scored_or_refused_by_name(self, detector, fitted):
        features, labels = fitted
        one = features.select((labels == 2).nonzero().flatten()), labels[labels == 2]
        try:
            found = detector.score(detector.fit(*one), features)
        except errors.TooFewLabels:
            assert "sisom" in type(detector).__name__.lower()
        else:
            assert bool(torch.isfinite(found).all())

    def test_no_rows_have_no_scores(self, detector, fitted):
        assert len(detector.score(detector.fit(*fitted), fitted[0].select([]))) == 0

    def test_a_missing_head_is_refused_by_name(self, detector, fitted):
        if "head" in detector.needs:
            with pytest.raises(errors.InputError, match=r"Head\.of\(model\)"):
                replace(detector, head=None).fit(*fitted)


class TestSelectors:
    @pytest.mark.parametrize("k", [0, 1, 5, 40])
    def test_exactly_k_rows_of_the_pool(self, selector, pool, labeled, k):
        rows = selector.select(pool, labeled, k, seed=0)
        assert rows.dtype == torch.int64 and len(rows) == len(set(rows.tolist())) == k
        assert set(rows.tolist()) <= set(range(40))

    def test_too_large_a_budget(self, selector, pool, labeled):
        with pytest.raises(errors.BudgetTooLarge, match="41 of 40"):
            selector.select(pool, labeled, 41, seed=0)

    def test_same_seed_same_picks_in_any_order_of_rows(self, selector, pool, labeled):
        picks = [pool.ids[row] for row in selector.select(pool, labeled, 12, seed=5)]
        assert picks == [pool.ids[row] for row in selector.select(pool, labeled, 12, seed=5)]
        order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
        turned = pool.select(order)
        assert picks == [turned.ids[row] for row in selector.select(turned, labeled, 12, seed=5)]

    def test_the_order_of_labels_changes_nothing(self, selector, pool, labeled):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
        turned = Labeled(labeled.features.select(order), labeled.labels[order], labeled.num_classes)
        first, second = (selector.select(pool, known, 12, seed=5).tolist() for known in (labeled, turned))
        assert first == second

    def test_copies_are_told_apart_by_their_ids_alone(self, selector, pool, labeled):
        crowd = replace(pool.select([4] * 30), ids=open_world.names(30))
        picks = [crowd.ids[row] for row in selector.select(crowd, labeled, 30, seed=0)]
        assert sorted(picks) == sorted(crowd.ids)
        turned = replace(crowd, ids=crowd.ids[::-1])
        again = [turned.ids[row] for row in selector.select(turned, labeled, 30, seed=0)]
        assert picks == again

    def test_without_labels(self, selector, pool, labeled):
        nothing = Labeled(labeled.features.select([]), labeled.labels[:0], labeled.num_classes)
        try:
            rows = selector.select(pool, nothing, 8, seed=0)
        except errors.EmptyInput:
            assert type(selector) is type(SELECTORS["sisome-greedy"]())
        else:
            assert len(set(rows.tolist())) == 8

    def test_with_one_class(self, selector, pool, labeled):
        one = labeled.labels == 1
        known = Labeled(labeled.features.select(one.nonzero().flatten()), labeled.labels[one], 4)
        certain = replace(
            pool.features, logits=torch.tensor([0.0, 5.0, 0.0, 0.0]) + 1e-3 * pool.features.logits
        )
        alike = replace(open_world.pool_of(certain), ids=pool.ids)
        try:
            rows = selector.select(alike, known, 8, seed=0)
        except errors.TooFewLabels:
            assert type(selector) is type(SELECTORS["sisome-greedy"]())
        else:
            assert len(set(rows.tolist())) == 8

    def test_what_it_needs_and_nothing_else(self, selector, pool, labeled):
        assert selector.needs <= {"scores", "features", "committee", "labeled"}
        parts = {part: getattr(pool, part) for part in selector.needs - {"labeled"}}
        bare = Labeled(None, labeled.labels, labeled.num_classes)
        known = labeled if "labeled" in selector.needs else bare
        lean = Candidates(pool.ids, **parts)
        expected = selector.select(pool, labeled, 7, seed=3).tolist()
        assert selector.select(lean, known, 7, seed=3).tolist() == expected
        if selector.needs:
            with pytest.raises(errors.InputError, match="needs the"):
                selector.select(Candidates(pool.ids), bare, 7, seed=3)

    def test_rows_that_are_not_finite_are_named(self, selector, pool, labeled):
        if "features" in selector.needs:
            broken = copy_of(pool.features)
            broken.logits[7, 0] = torch.nan
            with pytest.raises(errors.NonFinite):
                selector.select(replace(pool, features=broken), labeled, 3, seed=0)

    def test_inputs_are_left_alone(self, selector, pool, labeled):
        before, known = copy_of(pool.features), copy_of(labeled.features)
        selector.select(pool, labeled, 10, seed=0)
        assert same_bits(pool.features, before) and same_bits(labeled.features, known)

    def test_survives_pickling(self, selector, pool, labeled):
        other = pickle.loads(pickle.dumps(selector))
        assert torch.equal(other.select(pool, labeled, 6, seed=1), selector.select(pool, labeled, 6, seed=1))


@pytest.mark.parametrize("name", WHOLE)
def test_ids_that_repeat_are_refused(name, pool, labeled):
    twice = replace(pool, ids=[*pool.ids[:-1], pool.ids[0]])
    with pytest.raises(errors.InputError, match="more than once"):
        SELECTORS[name]().select(twice, labeled, 3, seed=0)


class TestRowSelectors:
    def test_one_finite_priority_a_row(self, row_selector, pool):
        found = row_selector.priority_of(pool, seed=0)
        assert found.shape == (40,) and found.dtype == torch.float64 and bool(torch.isfinite(found).all())

    @pytest.mark.parametrize("cut", [1, 7])
    def test_a_streamed_top_k_over_any_cutting_picks_the_same(self, row_selector, pool, labeled, cut):
        whole = [pool.ids[i] for i in row_selector.select(pool, labeled, 6, seed=2)]
        order = torch.randperm(40, generator=torch.Generator().manual_seed(cut)).tolist()
        best = []
        for start in range(0, 40, cut):
            part = pool.select(order[start : start + cut])
            priority = row_selector.priority_of(part, seed=2)
            best += list(zip((-priority).tolist(), part.ids, strict=True))
            best = sorted(best)[:6]
        assert [name for _, name in best] == whole

    def test_scores_alone_are_enough_for_some(self, by_scores, pool):
        found = by_scores.priority(pool.ids, pool.scores, seed=4)
        assert torch.equal(found, by_scores.priority_of(pool, seed=4))
        with pytest.raises(errors.ShapeMismatch):
            by_scores.priority(pool.ids[:-1], pool.scores, seed=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [("prob-cover", {"radius": 0.0}), ("typiclust", {"most": 0}), ("typiclust", {"small": -1})],
)
def test_impossible_options(name, options):
    with pytest.raises(errors.InputError):
        SELECTORS[name](**options)
