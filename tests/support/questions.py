"""Tables of questions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.labels.forms.rows import QUESTIONS


def questions(*given: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(given), schema=QUESTIONS)


def one(**changes: Any) -> pa.Table:
    plain = {"round": 3, "rank": 0, "id": "a", "uri": "u", "image": "u", "predicted": "cat", "score": 0.5}
    return questions(plain | changes)
