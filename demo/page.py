"""The page's layout and looks; what happens on a click is in events.py."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mutual_forcing.caption import EMOTIONS, MOTIONS
from mutual_forcing.types import MAX_STEPS

from . import events, inputs
from .events import QUIET, Controls
from .inputs import DRIVES, LENDS
from .studio import Studio

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

HERE = Path(__file__).parent
CHARACTERS = HERE.parent / "examples" / "characters"
_TEXT = "Hello! Nice to meet you. I was noise a moment ago, and now I am talking."


def build_demo(generator: StreamingGenerator, studio: Studio | None = None) -> gr.Blocks:
    """Return the page for `generator`; launch it with `launch_options(studio)`."""
    studio = studio or Studio(generator)
    with gr.Blocks(
        title="Mutual Forcing", delete_cache=(900, 3600), analytics_enabled=False
    ) as demo:
        gr.HTML(_read("header.html"))
        with gr.Tabs(), gr.Tab("Talk", id="talk"), gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                fields, preflight = _request_column(generator)
            with gr.Column(scale=5, min_width=320):
                stage = _stage_column()
        gr.HTML(_read("footer.html"))
        controls = Controls(fields=fields, preflight=preflight, **stage)
        events.wire(demo, studio, controls)
    demo.queue(max_size=20)
    return demo


def launch_options(studio: Studio) -> dict[str, Any]:
    """Return what `Blocks.launch` needs besides the address."""
    return {
        "theme": _theme(),
        "css": _read("page.css"),
        "app_kwargs": {"routes": [studio.shelf.route()]},
        "ssr_mode": False,
        "show_error": True,
        "max_file_size": "200mb",
        "footer_links": ["api", "settings"],
    }


def _request_column(
    generator: StreamingGenerator,
) -> tuple[list[gr.components.Component], gr.HTML]:
    picture = _character()
    text = gr.Textbox(
        _TEXT, label="What they say", lines=3, max_lines=8, max_length=inputs.MAX_TEXT,
        placeholder="English text", elem_id="text",
    )  # fmt: skip
    with gr.Row():
        emotion = gr.Dropdown(list(EMOTIONS), value="neutral", label="Emotion", min_width=120)
        motion = gr.Radio(list(MOTIONS), value="calm", label="Motion", min_width=160)
    with gr.Accordion("Your own sound", open=False):
        sound = gr.Audio(
            sources=["upload", "microphone"], type="filepath", label="Speech (up to 10 minutes)",
            elem_id="sound",
        )  # fmt: skip
        sound_use = gr.Radio(
            [DRIVES, LENDS],
            value=DRIVES,
            label="This sound",
            info="Driving speech is heard as it is, without the text.",
        )
    with gr.Group():
        steps = gr.Slider(
            1, min(MAX_STEPS, generator.max_steps), value=4, step=1, label="Steps", elem_id="steps",
            info="Fewer are faster.",
        )  # fmt: skip
        preflight = gr.HTML(inputs.preflight_problem(4, ""), elem_id="preflight")
    with gr.Accordion("Advanced", open=False):
        with gr.Row():
            seed = _number("Seed", "Same seed, same film", precision=0)
            guidance = _number("Guidance", "Multi mode, 1 to 10; 0: automatic")
        with gr.Row():
            seconds = _number("Seconds", "0: as long as needed")
            window = _number("Memory", "Past chunks seen; 0: automatic", precision=0)
    fields = [
        picture, text, sound, sound_use, emotion, motion, steps, seed, guidance, seconds, window,
    ]  # fmt: skip
    return fields, preflight


def _number(label: str, info: str, precision: int | None = None) -> gr.Number:
    return gr.Number(0, label=label, info=info, precision=precision, minimum=0, min_width=120)


def _character() -> gr.Image:
    picture = gr.Image(
        label="Character", type="filepath", sources=["upload", "webcam", "clipboard"], height=230,
        elem_id="character",
    )  # fmt: skip
    # Our own reader opens the file, by content and with limits; Gradio would open it first.
    picture.preprocess = lambda payload: payload.path if payload else None
    paths = sorted(CHARACTERS.glob("*.png"))
    if paths:
        gallery = gr.Gallery(
            [str(path) for path in paths], label="Examples", columns=6, buttons=[],
            allow_preview=False, interactive=False, object_fit="cover", show_label=False,
            elem_id="characters",
        )  # fmt: skip
        surprise = gr.Button("Surprise me", size="sm")

        def choose(event: gr.SelectData) -> str:
            return str(paths[event.index])

        gallery.select(choose, outputs=picture, **QUIET)
        surprise.click(lambda: str(random.choice(paths)), outputs=picture, **QUIET)
    return picture


def _stage_column() -> dict[str, Any]:
    player = gr.HTML(
        value="", html_template=_read("player.html"), css_template=_read("player.css"),
        js_on_load=_read("player.js"), elem_id="player",
    )  # fmt: skip
    with gr.Row():
        talk = gr.Button("Talk", variant="primary", scale=3, min_width=160, elem_id="talk-button")
        stop = gr.Button(
            "Stop", variant="stop", scale=1, min_width=90, interactive=False, elem_id="stop-button"
        )
    with gr.Group(visible=False) as more, gr.Row(equal_height=True):
        next_text = gr.Textbox(
            placeholder="… and then?", show_label=False, scale=4, container=False, min_width=160,
            max_length=inputs.MAX_TEXT, elem_id="next-text", label="What they say next",
        )  # fmt: skip
        proceed = gr.Button("Continue", scale=1, min_width=110, elem_id="continue-button")
    clip = gr.Video(
        label="Finished clip",
        buttons=["download"],
        interactive=False,
        visible=False,
        elem_id="clip",
    )
    return {
        "player": player, "talk": talk, "stop": stop, "more": more, "next_text": next_text,
        "proceed": proceed, "clip": clip,
    }  # fmt: skip


def _theme() -> gr.themes.Base:
    font = ["Inter", "system-ui", "-apple-system", "Segoe UI", "sans-serif"]
    return gr.themes.Soft(
        primary_hue="indigo",
        secondary_hue="violet",
        neutral_hue="slate",
        radius_size="lg",
        font=font,
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="linear-gradient(180deg, *primary_50 0%, *neutral_50 320px)",
        body_background_fill_dark="linear-gradient(180deg, #171a2c 0%, *neutral_950 320px)",
        button_primary_background_fill="linear-gradient(90deg, *primary_500, *secondary_500)",
        button_primary_background_fill_hover="linear-gradient(90deg, *primary_600, *secondary_600)",
        button_primary_background_fill_dark="linear-gradient(90deg, *primary_600, *secondary_600)",
        button_primary_text_color="white",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
    )


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
