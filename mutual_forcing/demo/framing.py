"""The choice of the face, of the framing and of the video's size, and a preview of it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any, cast

import gradio as gr
from PIL import Image

from mutual_forcing.types import FRAMINGS, Framing, GenerationRequest

from .components import QUIET
from .inputs import SIZE, SIZES, WHOLE
from .pictures import MAX_FACES, faces_of, nearest_face, outlined, place_face, read_character
from .sessions import SessionManager
from .texts import text as t


@dataclass(frozen=True)
class FramingControls:
    """The components. `fields` belong to the request; `shown` and `which` help to choose the face."""

    size: gr.Radio
    framing: gr.Radio
    face: gr.Number
    shown: gr.Image
    which: gr.Radio

    @property
    def fields(self) -> list[gr.components.Component]:
        """The components of the request in the order of the last fields of inputs.Form."""
        return [self.size, self.framing, self.face]


def build(name: str) -> FramingControls:
    """Build the components; the ids of their elements begin with `name`."""
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
    # The field of the request. Unlike the visible choice it does not depend on the shown picture.
    face = gr.Number(
        1, label=t("look.face"), minimum=1, maximum=MAX_FACES, precision=0, visible="hidden",
        elem_id=f"{name}-face",
    )  # fmt: skip
    return FramingControls(size, framing, face, shown, which)


def connect(
    sessions: SessionManager,
    picture: gr.components.Component,
    look: FramingControls,
    player: gr.HTML | None = None,
) -> None:
    """Let the components follow the picture, and let `player` show the first frame."""

    def seen(path: str | None, size: int, framing: str, face: float) -> tuple:
        drawn = _seen(path, int(face or 1))
        return (poster(sessions, path, size, framing, face), *drawn) if player else drawn

    def begins(path: str | None, size: int, framing: str, face: float) -> str:
        return poster(sessions, path, size, framing, face)

    def choose(path: str | None, event: gr.SelectData) -> Any:
        return _chosen(path, event.index)

    # Queued, unlike the other quick events, because only then warnings reach the page.
    queued = {**QUIET, "queue": True, "concurrency_limit": None, "trigger_mode": "always_last"}
    inputs = [picture, *look.fields]
    outputs = [look.shown, look.face, look.which]
    gr.on(
        [picture.change, look.face.change],  # pyright: ignore[reportAttributeAccessIssue] # set at run time
        seen, inputs,
        [player, *outputs] if player else outputs, **queued,
    )  # fmt: skip
    if player:
        gr.on([look.size.change, look.framing.change], begins, inputs, player, **queued)
    look.shown.select(choose, picture, look.face, **QUIET)
    look.which.input(lambda number: number, look.which, look.face, **QUIET)


def poster(
    sessions: SessionManager, path: str | None, size: float, framing: str, face: float
) -> str:
    """Return the player's message with the first frame, or with none if the picture cannot be used."""
    still = ""
    if path:
        try:
            request = GenerationRequest(
                read_character(path), "-", crop=place_face(path, int(face or 1)).crop,
                framing=cast("Framing", framing or WHOLE), size=int(size or SIZE),
            )  # fmt: skip
            generator = sessions.generator
            # What a CPU has prepared when the words are typed delays no first picture. A GPU takes no time
            # for it, and is at work for whoever has the model.
            on_cpu = generator.device.type == "cpu"
            canvas = generator.character(request).canvas if on_cpu else generator.canvas(request)
            still = _encoded(canvas.reference_frame)
        except ValueError:  # Reported when the picture is chosen and when it is used.
            still = ""
    return json.dumps({"poster": still})


def _seen(path: str | None, face: int) -> tuple:
    """Show the picture and what of it will move, and warn if it cannot be used."""
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
    """Return the number of the face that was clicked on, or no change if there is none."""
    try:
        x, y = (float(value) for value in place)
        return nearest_face(path, x, y) if path else gr.skip()
    except (TypeError, ValueError):
        return gr.skip()


def _encoded(pixels: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
