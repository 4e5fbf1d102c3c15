"""Components and helpers that several tabs share."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from mutual_forcing.text.captions import EMOTIONS, MOTIONS

from .texts import say
from .texts import text as t

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
CHARACTERS = EXAMPLES / "characters"
SURPRISES = EXAMPLES / "surprise"
VOICES = EXAMPLES / "voices"
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of quick events that are not part of the API."""
MODEL_QUEUE = "model"
MODEL: dict[str, Any] = {
    "concurrency_limit": 1,
    "concurrency_id": MODEL_QUEUE,
    "show_progress": "hidden",
}
"""Options of events that use the model: one at a time over all tabs; page.py lets an engine have more."""


def character(name: str, gallery_name: str) -> gr.Image:
    """Build the character's picture with its gallery; the names are the ids of their elements."""
    picture = gr.Image(
        label=t("ask.character"), type="filepath", sources=["upload", "webcam", "clipboard"],
        height=230, elem_id=name,
    )  # fmt: skip
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
    """Return a random one of `paths`, but not `last` unless it is the only one."""
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
    """Build the fields for emotion and motion; the ids of their elements begin with `name`."""
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
    """Build a field for a number; 0 stands for an automatic value."""
    return gr.Number(0, label=label, info=info, precision=precision, minimum=0, min_width=120)


def video_player(
    name: str, idle: str, start_button: str, stop_button: str, continue_button: str = ""
) -> gr.HTML:
    """Build the player of a growing video.

    Args:
        name: id of its element.
        idle: key of the text that is shown before the first video.
        start_button: id of the button that starts a stream.
        stop_button: id of the button that stops it.
        continue_button: id of the button that continues it, if there is one.
    """
    return gr.HTML(
        value="", html_template=read("player.html"), css_template=read("player.css"),
        js_on_load=read("player.js"), elem_id=name, idle=say(idle).html(),
        start_button=start_button, stop_button=stop_button, continue_button=continue_button,
    )  # fmt: skip


def read(name: str) -> str:
    """Return a text file of the folder static/."""
    return (HERE / "static" / name).read_text(encoding="utf-8")


def session_id_of(request: gr.Request) -> str:
    """Return the id of the browser tab or the API client that sent a request.

    Raises gr.Error for a request without one: callers without a session would share a stream.
    """
    if not request.session_hash:
        raise gr.Error(
            "This request belongs to no session: use the page or gradio_client, or send a session_hash.",
            print_exception=False,
        )
    return request.session_hash


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a ValueError, whose text is one sentence for the visitor, into a message on the page."""
    try:
        yield
    except gr.Error:  # a ValueError too, and its text is quoted
        raise
    except ValueError as error:
        raise gr.Error(
            str(error), title="Please check", duration=8, print_exception=False
        ) from error
