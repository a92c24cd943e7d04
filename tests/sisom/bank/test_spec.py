"""One value says how a bank is built, and refuses what cannot be built."""

from dataclasses import fields

import pytest

from sisom import BankSpec, average_ratio, build_detector, errors, fit_bank, score
from sisom.bank.spec import ROUNDS, STUDIES, SpecChanges


def test_the_named_sets():
    assert BankSpec() == STUDIES and STUDIES.subset == 1.0
    assert BankSpec(subset=0.05) == ROUNDS


def test_every_field_can_be_changed_by_keyword():
    assert set(SpecChanges.__annotations__) == {field.name for field in fields(BankSpec)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": 0.0}, "share in"),
        ({"subset": 0}, "count of at least 1"),
        ({"subset": True}, "share in"),
        ({"radius": 0.0}, "radius must be positive"),
        ({"rank": 0}, "start at 1"),
        ({"neighbors": 0}, "start at 1"),
        ({"r_avg": float("nan")}, "r_avg must be finite"),
        ({"r_avg": -0.1}, "r_avg must be finite"),
    ],
)
def test_refusals(make, change, message):
    features, labels = make()
    with pytest.raises(errors.InputError, match=message):
        BankSpec(**change)
    with pytest.raises(errors.InputError, match=message):
        fit_bank(features, labels, slopes=1.0, **change)


@pytest.mark.parametrize(
    ("field", "message"), [("outer", '"sample" or "anchor"'), ("fusion", '"zscore" or "raw"')]
)
def test_variants_that_do_not_exist(field, message):
    spec = BankSpec()
    object.__setattr__(
        spec, field, "middle"
    )  # the type checks of these tests refuse it before the class does
    with pytest.raises(errors.InputError, match=f"{field} must be {message}, got 'middle'"):
        spec.__post_init__()


def test_an_unknown_subset_method_is_named_with_the_nearest():
    with pytest.raises(errors.UnknownName, match="'radius'"):
        BankSpec(subset_method="radiuss")
    with pytest.raises(errors.UnknownName, match="'radius'"):
        build_detector("sisom-fused", subset_method="radiuss")


def test_spec_and_keywords_build_the_same_bank(make):
    features, labels = make()
    spec = BankSpec(subset=0.5, subset_method="kcenter", outer="anchor", rank=2, neighbors=2, fusion="raw")
    one = fit_bank(features, labels, slopes=2.0, spec=spec)
    two = fit_bank(
        features, labels, slopes=2.0,
        subset=0.5, subset_method="kcenter", outer="anchor", rank=2, neighbors=2, fusion="raw",
    )  # fmt: skip
    assert one.to_bytes() == two.to_bytes()
    assert fit_bank(features, labels, slopes=2.0, spec=spec, rank=1).rank == 1
    assert average_ratio(features, labels, 2.0, spec=spec) == average_ratio(
        features, labels, 2.0, outer="anchor", rank=2, neighbors=2
    )


def test_a_bank_remembers_the_spec_of_its_scores(make):
    features, labels = make()
    spec = BankSpec(outer="anchor", fusion="raw", rank=2, neighbors=3, r_avg=0.4)
    assert fit_bank(features, labels, slopes=1.0, spec=spec).spec == spec


def test_a_detector_takes_the_fields_of_a_spec_as_options(make):
    features, labels = make()
    detector = build_detector("sisom", slopes=2.0, subset=0.5, outer="anchor")
    bank = fit_bank(features, labels, slopes=2.0, subset=0.5, outer="anchor")
    assert detector.fit(features, labels).to_bytes() == bank.to_bytes()
    assert detector.score(bank, features).equal(score(bank, features).sisom)
    with pytest.raises(errors.InputError, match="zscore"):
        build_detector("sisom-fused", fusion="raw")
    with pytest.raises(errors.InputError, match="r_avg must be of type"):
        build_detector("sisome", r_avg="none")
