"""Label Studio: questions as its tasks, its exports as answers.

The model's choice is the prediction of a task. The labeling interface has three controls: `label`, a class of the
taxonomy; `status`, for images of no such class; `proposed`, a name for a class that is missing. Both JSON exports are
read, the full one and JSON_MIN; only the full one shows annotations that were skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from pipeline.errors import LabelError
from pipeline.labels.forms import Answer, not_plain, read_json
from pipeline.types import LABELS

LISTED = 30  # classes shown as buttons; more of them become a list to search
_STATUSES: Final = ("unknown-class", "out-of-world")  # Label Studio has its own button for skipping
_CONTROLS: Final = ("label", "status", "proposed")


def to_tasks(table: pa.Table) -> bytes:
    """Write `QUESTIONS` rows as tasks for Label Studio.

    The id is called `image_id`, since Label Studio uses `id` itself.
    """
    tasks = []
    for row in table.to_pylist():
        data = {"image_id": row["id"], **{k: v for k, v in row.items() if k not in LABELS.names}}
        task: dict[str, Any] = {"data": data}
        if row["predicted"] is not None:
            choice = _choice("label", row["predicted"])
            task["predictions"] = [{"model_version": f"round-{row['round']:03d}", "result": [choice]}]
        tasks.append(task)
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def _choice(control: str, value: str) -> dict[str, Any]:
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": [value]}}


def interface(taxonomy: Sequence[str]) -> bytes:
    """Return the labeling interface as XML.

    Paste it into a project's settings, or pass it to Label Studio's API.
    """
    look = ' layout="select"' if len(taxonomy) > LISTED else ' showInline="true"'
    lines = [
        "<View>",
        '  <Image name="image" value="$image" zoom="true"/>',
        f'  <Choices name="label" toName="image" choice="single-radio"{look}>',
        *(f"    <Choice value={quoteattr(name)}/>" for name in taxonomy),
        "  </Choices>",
        '  <Choices name="status" toName="image" choice="single-radio" showInline="true">',
        *(f"    <Choice value={quoteattr(name)}/>" for name in _STATUSES),
        "  </Choices>",
        '  <TextArea name="proposed" toName="image" maxSubmissions="1" rows="1"',
        '            placeholder="a name for the class that is missing"/>',
        "</View>",
        "",
    ]
    return "\n".join(lines).encode()


def from_export(data: bytes, place: str) -> Iterator[Answer]:
    """Read the annotations of an export, numbered by their tasks.

    A task without annotations yields no answer.

    Raises:
        LabelError: not an export of Label Studio, or one of tasks that `sisom labels export` did not make.
    """
    tasks = read_json(data, place)
    if not isinstance(tasks, list):
        raise LabelError(f"{place}: an export of Label Studio is a list of tasks")
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, dict):
            raise LabelError(f"{place}, task {number}: not a JSON object")
        where = f"task {number}"
        own = task.get("data")
        fields = own if isinstance(own, dict) else task
        if "image_id" not in fields:
            raise LabelError(f"{place}, {where}: no 'image_id'; export tasks that `sisom labels export` made")
        known = {"id": fields["image_id"], "fingerprint": fields.get("fingerprint")}
        answers = _annotations(task, where) if fields is own else [_flat(task, where)]
        for answer in answers:
            values = {**known, **answer.values}
            yield Answer(answer.where, values, answer.problem or not_plain(values))


def _annotations(task: Mapping[str, Any], where: str) -> Iterator[Answer]:
    annotations = task.get("annotations", [])
    if not isinstance(annotations, list):
        yield Answer(where, {}, "its annotations are no list")
        return
    for number, annotation in enumerate(annotations, start=1):
        place = where if len(annotations) == 1 else f"{where}, annotation {number}"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
            yield Answer(place, {}, "an annotation without a list of results")
            continue
        controls, others = _clicked(annotation.get("result", []))
        answer = _answer(place, controls, annotation, who=annotation.get("completed_by"))
        if annotation.get("was_cancelled") is True:
            yield Answer(place, {**answer.values, "label": None, "status": "skipped"})
        elif others and not controls:
            names = ", ".join(sorted(others))[:100]
            yield Answer(place, answer.values, f"results of {names} alone, no 'label'")
        else:
            yield answer


def _clicked(results: Sequence[Any]) -> tuple[dict[str, list[Any]], set[str]]:
    """Return the choices made by our controls, and other controls' names."""
    controls: dict[str, list[Any]] = {}
    others = set()
    for part in results:
        name = part.get("from_name") if isinstance(part, dict) else None
        value = part.get("value") if isinstance(part, dict) else None
        if name in _CONTROLS and isinstance(value, dict):
            chosen = value.get("text" if name == "proposed" else "choices")
            controls.setdefault(str(name), []).extend(chosen if isinstance(chosen, list) else [chosen])
        else:
            others.add(str(name))
    return controls, others


def _flat(task: Mapping[str, Any], where: str) -> Answer:
    """Read a row of JSON_MIN.

    In it, one choice is text, and several are an object or a list.
    """
    controls = {}
    for name in _CONTROLS:
        value = task.get(name)
        if isinstance(value, dict):
            value = value.get("text" if name == "proposed" else "choices")
        if value is not None and value != "":
            controls[name] = value if isinstance(value, list) else [value]
    return _answer(where, controls, task, who=task.get("annotator"))


def _answer(
    where: str, controls: Mapping[str, Sequence[Any]], made: Mapping[str, Any], *, who: Any
) -> Answer:
    at = made.get("updated_at") or made.get("created_at")
    values: dict[str, Any] = {"label": None, "status": None, "annotator": _annotator(who), "at": at}
    several = [name for name, chosen in controls.items() if len(chosen) > 1]
    if several:
        return Answer(where, values, f"{several[0]}: more than one choice")
    said = {name: chosen[0] for name, chosen in controls.items() if chosen}
    values |= {"label": said.get("label"), "status": said.get("status")}
    if "proposed" in said:
        if "label" in said:
            return Answer(where, values, "names a class and proposes another one; leave one of them empty")
        # A name alone says that the class is missing.
        values |= {"label": said["proposed"], "status": said.get("status", "unknown-class")}
    return Answer(where, values)


def _annotator(who: Any) -> str | None:
    """Return the annotator's e-mail address, or else `label-studio:NUMBER`.

    A number is another person's in another installation, so the address is preferred.
    """
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return f"label-studio:{who}" if isinstance(who, int) else None if who is None else str(who)
