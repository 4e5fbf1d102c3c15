"""What happens on the page: clicks in, messages to the player out."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from . import framing
from .fair import share_queue
from .framing import Look
from .guard import guard
from .inputs import DRIVES, SIZE, WHOLE, Form, preflight, preflight_problem
from .parts import MODEL, QUIET, polite, visitor
from .progress import Progress, failed_message, failure
from .studio import Studio
from .texts import plain_api

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Controls:
    """The components that events read and write; `fields` in the order of inputs.Form."""

    fields: list[gr.components.Component]
    talk: gr.Button
    player: gr.HTML
    stop: gr.Button
    more: gr.Group
    next_text: gr.Textbox
    proceed: gr.Button
    clip: gr.Video
    preflight: gr.HTML
    look: Look


def wire(demo: gr.Blocks, studio: Studio, c: Controls) -> None:
    """Connect the page's components to the studio."""
    guard(demo)
    plain_api(demo)
    share_queue(demo, studio.limits.waiting)
    stage = [c.player, c.stop, c.more, c.clip]
    talk, proceed, generate = _streams(studio)
    streams = [
        c.talk.click(talk, c.fields, stage, api_visibility="private", **MODEL),
        c.proceed.click(proceed, c.next_text, stage, api_visibility="private", **MODEL),
        c.next_text.submit(proceed, c.next_text, stage, api_visibility="private", **MODEL),
    ]
    for stream in streams:
        stream.failure(_failed, outputs=[c.player, c.stop], **QUIET)
    # A hidden button carries the endpoint that returns a file and nothing else.
    gr.Button(visible=False).click(generate, c.fields, c.clip, api_name="generate", **MODEL)

    def stop(request: gr.Request) -> None:
        studio.stop(visitor(request))

    def forget(request: gr.Request) -> None:
        studio.forget(visitor(request))

    c.stop.click(stop, **QUIET)
    demo.unload(forget)
    framing.wire(studio, c.fields[0], c.look, c.player)
    _wire_preflight(demo, studio, c)


def _streams(studio: Studio) -> tuple[Callable, Callable, Callable]:
    def talk(request: gr.Request, *values: Any) -> Iterator[Any]:
        with polite():
            form = Form(*values)
            wanted = form.request(studio.limits)
            stream = studio.begin(visitor(request), wanted, form.face_number())
            yield from _show(studio, request, stream)

    def proceed(text: str, request: gr.Request) -> Iterator[Any]:
        with polite():
            yield from _show(studio, request, studio.proceed(visitor(request), text))

    def generate(
        picture: str, text: str, sound: str | None = None, sound_use: str = DRIVES,
        emotion: str = "neutral", motion: str = "calm", steps: float = 4, seed: float = 0,
        guidance: float = 0, seconds: float = 0, window: float = 0, size: float = SIZE,
        framing: str = WHOLE, face: float = 1,
    ) -> str:  # fmt: skip
        """Make a whole clip and return it as an MP4 file with its settings as JSON in the comment.

        Args:
            picture: an uploaded picture of any size and shape with a face in it; it is kept whole.
            text: what they say, in English; may be empty when a sound drives the lips.
            sound: an uploaded recording of speech, or nothing.
            sound_use: whether the sound "drives the lips" or "gives the voice".
            emotion: one of the listed emotions.
            motion: one of the listed kinds of motion.
            steps: denoising steps a chunk, 1 to 50; up to 8 is Few mode, above is Multi mode.
            seed: a whole number from 0; the same seed makes the same film.
            guidance: Multi mode's guidance, 1 to 10; 0 for the default.
            seconds: length of the film; 0 for as long as the words need.
            window: chunks of the past that are seen, 1 to 64; 0 for the checkpoint's own.
            size: pixels on the film's shorter side, one of those listed; never beyond the picture's own.
            framing: "whole" for a film of the whole picture, "face" for a square around the face.
            face: which of several faces talks, from the largest, 1, to the smallest.
        """
        form = Form(
            picture, text, sound, sound_use, emotion, motion, steps, seed, guidance, seconds,
            window, size, framing, face,
        )  # fmt: skip
        who = f"api-{secrets.token_urlsafe(16)}"
        with polite():
            path = _whole_clip(studio, who, form)
        studio.release(who)
        return path

    return talk, proceed, generate


def _whole_clip(studio: Studio, who: str, form: Form) -> str:
    try:
        for _ in studio.begin(who, form.request(studio.limits), form.face_number()):
            pass
    except ValueError:
        raise
    except Exception as error:
        # What was made is returned, and its metadata says why it ended early.
        talk = studio.talk_of(who)
        if talk is None or not talk.parts:
            log.exception("A film could not be begun.")
            studio.forget(who)
            raise ValueError(failure(error)) from error
    talk = studio.talk_of(who)
    if talk is None:
        raise ValueError("The server is too busy: the film was dropped.")
    return str(studio.save(talk))


def _show(studio: Studio, request: gr.Request, stream: Iterator[Progress]) -> Iterator[Any]:
    """Pass the stream's progress to the player; at its end, however it ends, give the clip."""
    running = (gr.update(interactive=True), gr.update(visible=False), gr.update())
    progress = None
    try:
        for progress in stream:
            if not progress.done:
                yield progress.message(), *running
    except ValueError:
        raise
    except Exception as error:
        if progress is None or not progress.made:
            log.exception("A film could not be begun.")
            raise gr.Error(failure(error), print_exception=False) from error
        gr.Warning(f"{failure(error)} What was made until then is kept.")
    talk = studio.talk_of(visitor(request))
    if talk is None or progress is None:
        return
    finished = progress if progress.done else progress.broken_off()
    may_continue = gr.update(visible=not talk.broken)
    clip = gr.update(value=str(studio.save(talk)), visible=True)
    yield finished.message(), gr.update(interactive=False), may_continue, clip


def _failed() -> tuple[str, Any]:
    return failed_message(), gr.update(interactive=False)


def _wire_preflight(demo: gr.Blocks, studio: Studio, c: Controls) -> None:
    def predict(*values: Any) -> str:
        form = Form(*values)
        try:
            request = form.planned(studio.limits)
            return preflight(studio.plan(request), studio.pace, request)
        except ValueError as error:
            return preflight_problem(form.steps or 1, str(error))

    def tick(*values: Any) -> tuple[str, gr.Timer]:
        return predict(*values), gr.Timer(active=not studio.pace.known)

    picture, text, sound, use, _, _, steps, _, guidance, seconds, _, *look = c.fields
    asked = (picture, text, sound, use, steps, guidance, seconds, *look)
    gr.on(
        [demo.load, *(field.change for field in asked)],
        predict, c.fields, c.preflight, trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    timer = gr.Timer(2)
    timer.tick(tick, c.fields, [c.preflight, timer], **QUIET)
