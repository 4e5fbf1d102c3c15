"""The layout of the Talk tab. Its events are in events.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from mutual_forcing.types import MAX_STEPS

from . import framing, inputs, spoken
from .components import character, number, style, video_player
from .inputs import DRIVES, LENDS
from .texts import text as t

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

TEXT = "Hello! Nice to meet you. I was noise a moment ago, and now I am talking."


def request_column(
    generator: StreamingGenerator,
) -> tuple[list[gr.components.Component], dict[str, Any]]:
    """Build the request; return its fields in the order of inputs.Form, and the other components by their
    names in events.Controls.
    """
    picture = character("character", "characters")
    look = framing.build("talk")
    with gr.Group():
        text = gr.Textbox(
            TEXT, label=t("ask.text"), lines=3, max_lines=8, max_length=inputs.MAX_TEXT,
            placeholder=spoken.placeholder(generator), elem_id="text",
        )  # fmt: skip
        line = spoken.build("text")
    emotion, motion = style("talk")
    with gr.Accordion(t("ask.own-sound"), open=False):
        sound = gr.Audio(
            sources=["upload", "microphone"], type="filepath", label=t("ask.speech"),
            elem_id="sound",
        )  # fmt: skip
        sound_use = gr.Radio(
            [(t("sound.drives"), DRIVES), (t("sound.lends"), LENDS)],
            value=DRIVES,
            label=t("ask.sound-use"),
            info=t("ask.sound-info"),
        )
    with gr.Group():
        steps = gr.Slider(
            1, min(MAX_STEPS, generator.max_steps), value=4, step=1, label=t("ask.steps"),
            elem_id="steps", info=t("ask.steps-info"),
        )  # fmt: skip
        preflight = gr.HTML(inputs.preflight_problem(4, ""), elem_id="preflight")
    with gr.Accordion(t("ask.advanced"), open=False):
        with gr.Row():
            seed = number(t("ask.seed"), t("ask.seed-info"), precision=0)
            guidance = number(t("ask.guidance"), t("ask.guidance-info"))
        with gr.Row():
            seconds = number(t("ask.seconds"), t("ask.seconds-info"))
            window = number(t("ask.window"), t("ask.window-info"), precision=0)
        language = spoken.language_choice(generator, "talk")
    fields = [
        picture, text, sound, sound_use, emotion, motion, steps, seed, guidance, seconds, window,
        *look.fields, *([language] if language else []),
    ]  # fmt: skip
    return fields, {"preflight": preflight, "look": look, "spoken": line, "language": language}


def stage_column(generator: StreamingGenerator) -> dict[str, Any]:
    """Build the player and its buttons; return the components by their names in events.Controls."""
    player = video_player(
        "player", "player.idle-talk", start_button="talk-button", stop_button="stop-button",
        continue_button="continue-button",
    )  # fmt: skip
    with gr.Row(elem_classes="mf-actions"):
        talk = gr.Button(
            t("do.talk"), variant="primary", scale=3, min_width=160, elem_id="talk-button"
        )
        stop = gr.Button(
            t("do.stop"), variant="stop", scale=1, min_width=90, interactive=False,
            elem_id="stop-button",
        )  # fmt: skip
    with gr.Group(visible=False) as more:
        with gr.Row(equal_height=True):
            next_text = gr.Textbox(
                placeholder=spoken.next_placeholder(generator), show_label=False, scale=4,
                container=False, min_width=160, max_length=inputs.MAX_TEXT, elem_id="next-text",
                label=t("ask.text-next"),
            )  # fmt: skip
            proceed = gr.Button(t("do.continue"), scale=1, min_width=110, elem_id="continue-button")
        next_line = spoken.build("next-text")
    clip = gr.Video(
        label=t("result.clip"),
        buttons=["download"],
        interactive=False,
        visible=False,
        elem_id="clip",
    )
    return {
        "player": player, "talk": talk, "stop": stop, "more": more, "next_text": next_text,
        "next_spoken": next_line, "proceed": proceed, "clip": clip,
    }  # fmt: skip
