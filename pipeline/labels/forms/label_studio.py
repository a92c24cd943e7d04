"""Label Studio: its exports as answers.

The controls are those of `label_studio_tasks`. Exports as JSON, JSON_MIN and CSV are read, and the files that it
writes to a target storage; only the full JSON shows annotations that were skipped, and which choices were a
prediction's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.errors import LabelError
from pipeline.labels.forms.label_studio_tasks import CONTROLS, ID, without_gap
from pipeline.labels.forms.rows import Answer, csv_rows, from_csv, not_plain, read_json
from pipeline.labels.forms.tables import OURS, Columns

_OTHER_TOOLS: Final = (
    ({"categories", "items"}, "Datumaro"),
    ({"images", "annotations"}, "COCO"),
    ({"samples"}, "FiftyOne"),
)


def from_table(data: bytes, place: str, columns: Columns = OURS) -> Iterator[Answer]:
    """Read rows of CSV, ours or Label Studio's.

    Label Studio's has `image_id` beside an `id` of its own. Raises `LabelError`.
    """
    rows = csv_rows(data, place)
    names = [name.strip() for name in next(rows)[1]]
    if columns.id is not None or ID not in names:
        yield from from_csv(data, place, columns)
        return
    for where, row in rows:
        if isinstance(row, str):
            yield Answer(where, {}, row)
            continue
        task = dict(zip(names, row, strict=True))
        yield _known(task, _flat({name: _nested(cell) for name, cell in task.items()}, where))


def _nested(cell: str | None) -> Any:
    """Return a cell; several choices stand in it as JSON."""
    if cell is None or not cell.startswith(("{", "[")):
        return cell
    try:
        return read_json(cell.encode(), "")
    except LabelError:
        return cell


def from_export(data: bytes, place: str, columns: Columns = OURS) -> Iterator[Answer]:
    """Read the annotations of an export, numbered by their tasks.

    A task without annotations yields no answer, and one that is not ours a foreign one. A file of a target storage is
    an annotation with its task inside.

    Raises:
        LabelError: not an export of Label Studio, or one without any task that `sisom labels export` made.
    """
    tasks = read_json(data, place)
    if isinstance(tasks, dict) and isinstance(tasks.get("task"), dict) and "result" in tasks:
        tasks = [{**tasks["task"], "annotations": [tasks]}]
    if not isinstance(tasks, list):
        raise LabelError(f"{place}: an export of Label Studio is a list of tasks{_other_tool(tasks)}")
    name = columns.id or ID
    foreign = None
    ours = 0
    for number, task in enumerate(tasks, start=1):
        where = f"task {number}"
        if not isinstance(task, dict):
            raise LabelError(f"{place}, {where}: not a JSON object")
        own = task.get("data")
        fields = own if isinstance(own, dict) else task
        if name not in fields:
            foreign = foreign or f"{where}: no {name!r}"
            yield Answer(where, {}, foreign=f"no {name!r}: a task that `sisom labels export` has not made")
            continue
        ours += 1
        answers = _annotations(task, where) if fields is own else [_flat(task, where)]
        for answer in answers:
            yield _known({**fields, ID: fields[name]}, answer)
    if foreign is not None and not ours:
        raise LabelError(f"{place}, {foreign}; export tasks that `sisom labels export` made")


def _known(fields: Mapping[str, Any], answer: Answer) -> Answer:
    """Return an answer with the id and fingerprint of its task."""
    values = {"id": fields[ID], "fingerprint": fields.get("fingerprint"), **answer.values}
    return Answer(answer.where, values, answer.problem or not_plain(values))


def _other_tool(found: Any) -> str:
    for keys, tool in _OTHER_TOOLS if isinstance(found, dict) else ():
        if keys <= found.keys():
            return (
                f", and this looks like {tool}; write its labels as a table of id and label, where an id is an image's "
                "key below pool.uri, or what pool.id_column holds"
            )
    return ""


def _annotations(task: Mapping[str, Any], where: str) -> Iterator[Answer]:
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        yield Answer(where, {}, "its annotations are no list")
        return
    for number, annotation in enumerate(annotations, start=1):
        place = where if len(annotations) == 1 else f"{where}, annotation {number}"
        results = annotation.get("result") or [] if isinstance(annotation, dict) else None
        if not isinstance(results, list):
            yield Answer(place, {}, "an annotation without a list of results")
            continue
        if annotation.get("was_cancelled") is True:
            who, at = _annotator(annotation.get("completed_by")), _time(annotation)
            yield Answer(place, {"label": None, "status": "skipped", "annotator": who, "at": at})
            continue
        clicked, others = _clicked(results)
        answer = _answer(place, clicked, annotation, who=annotation.get("completed_by"))
        if others and not clicked:
            names = ", ".join(sorted(others))[:100]
            yield Answer(place, answer.values, f"results of {names} alone, no 'label'")
        else:
            yield answer


@dataclass(frozen=True)
class _Clicked:
    """The content of one of our controls.

    chosen     its choices or texts, empty ones left out
    predicted  true if a prediction has set it, and the annotator left it
    problem    why it can't be read
    """

    chosen: Sequence[Any]
    predicted: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, control: str, values: Any, *, predicted: bool = False) -> _Clicked:
        """Return a control's content, given as a text or a list."""
        given = values if isinstance(values, list) else [values]
        chosen = [v for v in given if v is not None and not (isinstance(v, str) and not v.strip())]
        several = len(chosen) > 1
        return cls(chosen, predicted, f"{control}: more than one choice" if several else None)


def _clicked(results: Sequence[Any]) -> tuple[dict[str, _Clicked], set[str]]:
    """Return what stands in our controls, and other controls' names."""
    parts: dict[str, list[Any]] = {}
    others = set()
    for part in results:
        name = part.get("from_name") if isinstance(part, dict) else None
        if name in CONTROLS and isinstance(part.get("value"), dict):
            parts.setdefault(str(name), []).append(part)
        else:
            others.add(str(name))
    found = {}
    for control, made in parts.items():
        values: list[Any] = []
        problem = None
        for part in made:
            chosen, wrong = _values(control, part)
            values += chosen
            problem = problem or wrong
        predicted = all(part.get("origin") == "prediction" for part in made)
        clicked = _Clicked.of(control, values, predicted=predicted)
        found[control] = _Clicked(clicked.chosen, predicted, problem or clicked.problem)
    return found, others


def _values(control: str, part: Mapping[str, Any]) -> tuple[list[Any], str | None]:
    """Return the choices or texts of a result.

    Or why it has none. A taxonomy's choice is a path, of which the last name counts.
    """
    value = part["value"]
    for kind in ("text",) if control == "proposed" else ("choices", "taxonomy"):
        if kind in value:
            given = value[kind] if isinstance(value[kind], list) else [value[kind]]
            paths = kind == "taxonomy"
            return [v[-1] if paths and isinstance(v, list) and v else v for v in given], None
    return [], f"{control}: a result of type {str(part.get('type'))[:100]!r}, which holds no choice"


def _flat(task: Mapping[str, Any], where: str) -> Answer:
    """Read a row of JSON_MIN or CSV.

    In it, one choice is text, and several are an object or a list.
    """
    clicked = {}
    for name in CONTROLS:
        value = task.get(name)
        if isinstance(value, dict):
            value = value.get("text" if name == "proposed" else "choices")
        if value is not None and value != "":
            clicked[name] = _Clicked.of(name, value)
    return _answer(where, clicked, task, who=task.get("annotator"))


def _answer(where: str, clicked: Mapping[str, _Clicked], made: Mapping[str, Any], *, who: Any) -> Answer:
    values: dict[str, Any] = {"label": None, "status": None, "annotator": _annotator(who), "at": _time(made)}
    clicked = _by_hand(clicked)
    problems = [control.problem for control in clicked.values() if control.problem is not None]
    if problems:
        return Answer(where, values, problems[0])
    said = {name: _meant(control.chosen[0]) for name, control in clicked.items() if control.chosen}
    values |= {"label": said.get("label"), "status": said.get("status")}
    if "label" in said and "status" in said:
        why = f"status {str(said['status'])[:100]!r} and label {str(said['label'])[:100]!r} at once; undo one of them"
        return Answer(where, values, why)
    if "proposed" in said:
        if "label" in said:
            return Answer(where, values, "names a class and proposes another one; leave one of them empty")
        if said.get("status") == "out-of-world":
            return Answer(where, values, "proposes a class and says out-of-world; leave one of them empty")
        # A name alone says that the class is missing.
        values |= {"label": said["proposed"], "status": said.get("status", "unknown-class")}
    return Answer(where, values)


def _by_hand(clicked: Mapping[str, _Clicked]) -> Mapping[str, _Clicked]:
    """Drop the predictions that an annotator left beside choices of their own."""
    mine = {name: control for name, control in clicked.items() if control.chosen and not control.predicted}
    return mine or clicked


def _meant(value: Any) -> Any:
    return without_gap(value) if isinstance(value, str) else value


def _time(made: Mapping[str, Any]) -> Any:
    return made.get("updated_at") or made.get("created_at")


def _annotator(who: Any) -> str | None:
    """Return the annotator's e-mail address, or else `label-studio:NUMBER`.

    A number is another person's in another installation, so the address is preferred.
    """
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    number = isinstance(who, int) or (isinstance(who, str) and who.isascii() and who.isdigit())
    return f"label-studio:{who}" if number else None if who is None else str(who)
