"""Label Studio: questions as its tasks, and its labeling interface.

The model's choice is the prediction of a task. The interface has three controls: `label`, a class of the taxonomy;
`status`, for images of no such class; `proposed`, a name for a class that is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from pipeline.types import LABELS

CONTROLS: Final = ("label", "status", "proposed")
ID: Final = "image_id"  # what a task calls our id: Label Studio uses `id` itself
LISTED = 30  # classes that are easy to find among buttons; more of them get a field to search by
_STATUSES: Final = ("unknown-class", "out-of-world")  # Label Studio has its own button for skipping
_VARIABLE: Final = re.compile(r"\$(?=[\w.\[\]])")
_GAP: Final = "\N{ZERO WIDTH SPACE}"


def to_tasks(table: pa.Table) -> bytes:
    """Write `QUESTIONS` rows as tasks for Label Studio."""
    tasks = []
    for row in table.to_pylist():
        data = {ID: row["id"], **{k: v for k, v in row.items() if k not in LABELS.names}}
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

    Paste it into a project's settings, or pass it to Label Studio's API. Its choices are boxes and not radio buttons,
    because a radio button that a prediction has set can't be unset.
    """
    search = '  <Filter name="search" toName="label" minlength="0" placeholder="search a class"/>'
    lines = [
        "<View>",
        '  <Image name="image" value="$image" zoom="true"/>',
        *([search] if len(taxonomy) > LISTED else []),
        '  <Choices name="label" toName="image" choice="single" showInline="true">',
        *(f"    {_option(name)}" for name in taxonomy),
        "  </Choices>",
        '  <Choices name="status" toName="image" choice="single" showInline="true">',
        *(f"    {_option(name)}" for name in _STATUSES),
        "  </Choices>",
        '  <TextArea name="proposed" toName="image" maxSubmissions="1" rows="1"',
        '            placeholder="a name for the class that is missing"/>',
        "</View>",
        "",
    ]
    return "\n".join(lines).encode()


def _option(name: str) -> str:
    """Return a choice of the interface.

    Label Studio takes `$5` in a value for a field of the task, so such a class is shown with a gap of no width, and
    answered by its alias.
    """
    shown = _VARIABLE.sub(f"${_GAP}", name)
    alias = f" alias={quoteattr(name)}" if shown != name else ""
    return f"<Choice value={quoteattr(shown)}{alias}/>"


def without_gap(text: str) -> str:
    """Return the class of a choice as the interface shows it."""
    return text.replace(f"${_GAP}", "$")
