"""The steps of a round: name, artefact, function, once."""

from __future__ import annotations

STEPS = (
    ("plan", "plan.json"),
    ("train", "model/model.json"),
    ("evaluate", "evaluation.json"),
    ("slopes", "slopes.json"),
    ("bank", "bank.safetensors"),
    ("score", "account.json"),
    ("select", "query.parquet"),
    ("report", "report.html"),
    ("commit", "round.json"),
)
