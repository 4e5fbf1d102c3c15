"""Examples that fill every field of the request."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import gradio as gr

from .components import CHARACTERS, QUIET
from .inputs import Form
from .settings import from_json
from .texts import text as t

RUNS = CHARACTERS.parent / "runs"
"""Folder of JSON files as `settings.to_json` writes them."""
_LABEL = 48


def read_run(path: Path) -> Form:
    """Return the form of an example; raises ValueError if a field is missing."""
    try:
        return Form(**from_json(path.read_text(encoding="utf-8")))
    except TypeError as error:
        raise ValueError(f"{path.name} does not set every field of the request.") from error


def build(fields: list[gr.components.Component]) -> None:
    """Build the list of examples. A click on one fills `fields` (in Form's order)."""
    forms = [read_run(path) for path in sorted(RUNS.glob("*.json"))]
    if not forms:
        return
    examples = gr.Dataset(
        label=t("ask.runs"), components=["textbox"], samples=[[_label(form)] for form in forms],
        type="index", elem_id="runs",
    )  # fmt: skip

    def fill(index: int) -> list[Any]:
        return list(astuple(forms[index]))[: len(fields)]

    examples.click(fill, examples, fields, **QUIET)


def _label(form: Form) -> str:
    says = form.text or Path(form.sound or "").stem
    short = says if len(says) <= _LABEL else says[: _LABEL - 1].rstrip() + "…"
    return f"{form.steps} steps, {form.emotion}, {form.motion}: {short}"
