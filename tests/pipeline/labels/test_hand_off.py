"""Questions out and answers back: nothing is lost on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.labels.export_questions import ENDS, export
from pipeline.labels.forms.values import NOTHING
from pipeline.labels.import_answers import take_in
from tests.support.hand_off import TAXONOMY, Project, Said, filled

MakeConfig = Callable[..., Config]


names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1, max_size=6)


opinions = st.one_of(
    st.tuples(st.just("labeled"), st.sampled_from(TAXONOMY)),
    st.tuples(
        st.just("unknown-class"), st.none() | names.filter(lambda name: name not in {*TAXONOMY, *NOTHING})
    ),
    st.tuples(st.sampled_from(["out-of-world", "skipped"]), st.none()),
)


said = st.builds(
    lambda opinion, annotator, at: Said(*opinion, annotator, at),
    opinions,
    names.map(lambda name: f"{name}@x"),
    st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ["=1+1", "'=1", "a\nb", "a\r\nb", '"', " a ", "-", "@", "ﬀ✓𝄞", "\x00", "0012", "1e5"]
)


@pytest.mark.parametrize("form", sorted(ENDS))
@settings(max_examples=25)
@given(pool=st.dictionaries(ids, st.none() | said, min_size=1, max_size=5))
def test_export_edit_import_loses_nothing(
    form: str, pool: dict[str, Said | None], make_config: MakeConfig
) -> None:
    answers = {name: answer for name, answer in pool.items() if answer is not None}
    with tempfile.TemporaryDirectory() as folder:
        project = Project.lay(folder, make_config, list(pool), list(pool))
        place = project.out(form)
        Path(place).write_bytes(filled(form, Path(place).read_bytes(), answers))
        found = project.take(place)
        assert found["refused"] == found["remarks"] == found["disagree"] == []
        assert (found["taken"], found["known"]) == (len(answers), 0)
        assert found["open"] == (0 if form == "label-studio" else len(pool) - len(answers))
        rows = {row.pop("id"): row for row in project.labels().table.to_pylist()}
        assert rows == {name: vars(answer) for name, answer in answers.items()}
        before = {key: project.workspace.store.get(key) for key in project.workspace.keys("")}
        again = project.take(place)
        assert (again["taken"], again["known"], again["written"]) == (0, len(answers), False)
        assert {key: project.workspace.store.get(key) for key in project.workspace.keys("")} == before


@pytest.mark.parametrize("form", sorted(ENDS))
def test_there_and_back_on_disk_and_s3(form: str, base_uri: str, make_config: MakeConfig) -> None:
    project = Project.lay(base_uri, make_config, list("abcd"), list("abc"))
    place = project.out(form)
    name = place.rpartition("/")[2]
    answers = {n: Said("labeled", "dog", "ann@x", None) for n in "ab"}
    project.store.put(name, filled(form, project.store.get(name), answers))
    found = project.take(place)
    assert (found["taken"], found["refused"], found["written"]) == (2, [], True)
    assert project.labels().labeled() == (["a", "b"], ["dog", "dog"])
    assert project.take(place)["written"] is False


def test_nobody_has_asked_yet(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(workspace=str(tmp_path / "work"), taxonomy=TAXONOMY)
    with pytest.raises(UserError, match="no round is"):
        take_in(config, ["x.csv"])
    with pytest.raises(UserError, match="no round is"):
        export(config, "csv", f"{tmp_path}/x.csv")
    assert list(tmp_path.iterdir()) == []
