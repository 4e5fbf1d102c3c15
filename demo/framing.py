"""What of the picture is animated, and how large the film is: these choices, and how they look."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from mutual_forcing.types import FRAMINGS, GenerationRequest

from .inputs import SIZE, SIZES, WHOLE
from .parts import QUIET
from .pictures import MAX_FACES, faces_of, nearest_face, outlined, place_face, read_character
from .studio import Studio
from .texts import text as t


@dataclass(frozen=True)
class Look:
    """The components: `fields` belong to the request, `shown` and `which` help to choose the face."""

    size: gr.Radio
    framing: gr.Radio
    face: gr.Number
    shown: gr.Image
    which: gr.Radio

    @property
    def fields(self) -> list[gr.components.Component]:
        """In the order of the last fields of inputs.Form."""
        return [self.size, self.framing, self.face]


def build(name: str) -> Look:
    """Build the choices; the names of their elements on the page begin with `name`."""
    numbers = [(str(n), n) for n in range(1, MAX_FACES + 1)]
    with gr.Row():
        shown = gr.Image(
            label=t("look.shown"), visible=False, interactive=False, buttons=[], height=210, scale=3,
            min_width=150, elem_id=f"{name}-shown", elem_classes="mf-shown",
        )  # fmt: skip
        with gr.Column(scale=4, min_width=200):
            framing = gr.Radio(
                [(t(f"framing.{kind}"), kind) for kind in FRAMINGS], value=WHOLE,
                label=t("look.framing"), elem_id=f"{name}-framing",
            )  # fmt: skip
            size = gr.Radio(
                [(str(n), n) for n in SIZES], value=SIZE, label=t("look.size"),
                info=t("look.size-info"), elem_id=f"{name}-size",
            )  # fmt: skip
            which = gr.Radio(
                numbers, value=1, label=t("look.face"), info=t("look.face-info"), visible=False,
                elem_id=f"{name}-which",
            )  # fmt: skip
    # Gradio describes every choice as a string, which its MCP server then insists on.
    described = {**size.api_info(), "type": "integer"}
    size.api_info = lambda: described
    # The request's own field: unlike the visible choice it never depends on the picture that is shown.
    face = gr.Number(
        1, label=t("look.face"), minimum=1, maximum=MAX_FACES, precision=0, visible="hidden",
        elem_id=f"{name}-face",
    )  # fmt: skip
    return Look(size, framing, face, shown, which)


def wire(
    studio: Studio, picture: gr.components.Component, look: Look, player: gr.HTML | None = None
) -> None:
    """Let the choices follow the picture, and `player` show how the film begins."""

    def seen(path: str | None, size: int, framing: str, face: float) -> tuple:
        drawn = _seen(path, int(face or 1))
        return (poster(studio, path, size, framing, face), *drawn) if player else drawn

    def begins(path: str | None, size: int, framing: str, face: float) -> str:
        return poster(studio, path, size, framing, face)

    def choose(path: str | None, event: gr.SelectData) -> Any:
        return _chosen(path, event.index)

    # Queued, unlike the other quick events: only then do warnings reach the page.
    queued = {**QUIET, "queue": True, "concurrency_limit": None, "trigger_mode": "always_last"}
    inputs = [picture, *look.fields]
    outputs = [look.shown, look.face, look.which]
    gr.on(
        [picture.change, look.face.change], seen, inputs,
        [player, *outputs] if player else outputs, **queued,
    )  # fmt: skip
    if player:
        gr.on([look.size.change, look.framing.change], begins, inputs, player, **queued)
    look.shown.select(choose, picture, look.face, **QUIET)
    look.which.input(lambda number: number, look.which, look.face, **QUIET)


def poster(studio: Studio, path: str | None, size: float, framing: str, face: float) -> str:
    """Return the player's message with the film's picture at rest; empty for what cannot be used."""
    still = ""
    if path:
        try:
            request = GenerationRequest(
                read_character(path), "-", crop=place_face(path, int(face or 1)).crop,
                framing=framing or WHOLE, size=int(size or SIZE),
            )  # fmt: skip
            still = _encoded(studio.generator.canvas(request).still)
        except ValueError:  # said when the picture was chosen, and again when it is used
            still = ""
    return json.dumps({"poster": still})


def _seen(path: str | None, face: int) -> tuple:
    """Show what was uploaded and what of it will move; warn early about what cannot be used."""
    gone = gr.update(value=None, visible=False), gr.skip(), gr.update(visible=False)
    if not path:
        return gone
    try:
        count = len(faces_of(path))
        face = face if face <= max(1, count) else 1
        shown = outlined(path, face)
    except ValueError as error:
        gr.Warning(str(error))
        return gone
    try:
        note = place_face(path, face).note
    except ValueError as error:
        note = str(error)
    if note:
        gr.Warning(note)
    which = gr.update(
        choices=[(str(n), n) for n in range(1, count + 1)] or [("1", 1)], value=face,
        visible=count > 1,
    )  # fmt: skip
    return gr.update(value=shown, visible=True), face, which


def _chosen(path: str | None, place: Any) -> Any:
    """The number of the face that was clicked on; no change where that cannot be said."""
    try:
        x, y = (float(value) for value in place)
        return nearest_face(path, x, y) if path else gr.skip()
    except (TypeError, ValueError):
        return gr.skip()


def _encoded(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
