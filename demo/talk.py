"""The layout of the Talk tab; what happens on a click is in events.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mutual_forcing.caption import EMOTIONS, MOTIONS
from mutual_forcing.types import MAX_STEPS

from . import inputs
from .inputs import DRIVES, LENDS
from .parts import character, number, read

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

TEXT = "Hello! Nice to meet you. I was noise a moment ago, and now I am talking."


def request_column(
    generator: StreamingGenerator,
) -> tuple[list[gr.components.Component], gr.HTML]:
    """Build what is asked for; return the fields in the order of inputs.Form, and the preflight."""
    picture = character("character", "characters")
    text = gr.Textbox(
        TEXT, label="What they say", lines=3, max_lines=8, max_length=inputs.MAX_TEXT,
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
            seed = number("Seed", "Same seed, same film", precision=0)
            guidance = number("Guidance", "Multi mode, 1 to 10; 0: automatic")
        with gr.Row():
            seconds = number("Seconds", "0: as long as needed")
            window = number("Memory", "Past chunks seen; 0: automatic", precision=0)
    fields = [
        picture, text, sound, sound_use, emotion, motion, steps, seed, guidance, seconds, window,
    ]  # fmt: skip
    return fields, preflight


def stage_column() -> dict[str, Any]:
    """Build where the stream is watched; return the components by their name in events.Controls."""
    player = gr.HTML(
        value="", html_template=read("player.html"), css_template=read("player.css"),
        js_on_load=read("player.js"), elem_id="player",
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
