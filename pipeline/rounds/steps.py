"""The steps of a round: name, artefact, function, once."""

from __future__ import annotations

from pipeline.workspace import keys

STEPS = (
    ("plan", keys.PLAN),
    ("train", keys.MODEL_RECORD),
    ("evaluate", keys.EVALUATION),
    ("slopes", keys.SLOPES),
    ("bank", keys.BANK),
    ("score", keys.ACCOUNT),
    ("select", keys.QUERY),
    ("report", keys.REPORT),
    ("commit", keys.ROUND),
)
