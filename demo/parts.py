"""Pieces that several tabs are made of."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from mutual_forcing.caption import EMOTIONS, MOTIONS

from .texts import text as t

HERE = Path(__file__).parent
CHARACTERS = HERE.parent / "examples" / "characters"
SURPRISES = HERE.parent / "examples" / "surprise"
VOICES = HERE.parent / "examples" / "voices"
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
MODEL: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": "model",
    "show_progress": "hidden",
}
"""For events that use the model: one at a time, over all tabs."""


def character(name: str, gallery_name: str) -> gr.Image:
    """Build the character's picture with its gallery; the names are their ids on the page."""
    picture = gr.Image(
        label=t("ask.character"), type="filepath", sources=["upload", "webcam", "clipboard"],
        height=230, elem_id=name,
    )  # fmt: skip
    # Our own reader opens the file, by content and with limits; Gradio would open it first.
    picture.preprocess = lambda payload: payload.path if payload else None
    paths = sorted(CHARACTERS.glob("*.png"))
    if paths:
        gallery = gr.Gallery(
            [str(path) for path in paths], label=t("ask.examples"), columns=6, buttons=[],
            allow_preview=False, interactive=False, object_fit="cover", show_label=False,
            elem_id=gallery_name, elem_classes="mf-gallery",
        )  # fmt: skip

        def choose(event: gr.SelectData) -> str:
            return str(paths[event.index])

        gallery.select(choose, outputs=picture, **QUIET)
    _surprise_button(picture, sorted(SURPRISES.glob("*.webp")) or paths)
    return picture


def another(paths: Sequence[Path], last: str) -> str:
    """Return one of `paths` at random, but not `last` unless it is the only one."""
    names = [str(path) for path in paths]
    return random.choice([name for name in names if name != last] or names)


def _surprise_button(picture: gr.Image, paths: Sequence[Path]) -> None:
    if not paths:
        return
    last = gr.State("")

    def surprise(last: str) -> tuple[str, str]:
        path = another(paths, last)
        return path, path

    gr.Button(t("ask.surprise"), size="sm").click(surprise, last, [picture, last], **QUIET)


def style(name: str) -> tuple[gr.Dropdown, gr.Radio]:
    """Build the emotion and the motion side by side; their ids on the page begin with `name`."""
    with gr.Row():
        emotion = gr.Dropdown(
            [(t(f"emotion.{word}"), word) for word in EMOTIONS], value="neutral",
            label=t("ask.emotion"), min_width=120, elem_id=f"{name}-emotion",
        )  # fmt: skip
        motion = gr.Radio(
            [(t(f"motion.{word}"), word) for word in MOTIONS], value="calm",
            label=t("ask.motion"), min_width=160, elem_id=f"{name}-motion",
        )  # fmt: skip
    return emotion, motion


def number(label: I18nData, info: I18nData, precision: int | None = None) -> gr.Number:
    """Build a field for a number of which 0 means: left open."""
    return gr.Number(0, label=label, info=info, precision=precision, minimum=0, min_width=120)


def read(name: str) -> str:
    """Return a text file of this folder."""
    return (HERE / name).read_text(encoding="utf-8")


def visitor(request: gr.Request) -> str:
    """Return who asks: one browser tab, or one client."""
    return request.session_hash or "api"


@contextmanager
def polite() -> Iterator[None]:
    """Turn a ValueError, which is one clear sentence, into the page's message."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(
            str(error), title="Please check", duration=8, print_exception=False
        ) from error
