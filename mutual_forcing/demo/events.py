"""The events of the Talk tab and of the whole page."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from . import framing, spoken
from .components import MODEL, QUIET, session_id_of, user_errors
from .framing import FramingControls
from .inputs import AUTOMATIC, DRIVES, SIZE, WHOLE, Form, preflight, preflight_problem
from .leaving import Departure, while_there
from .progress import Progress, failed_message, failure
from .rate_limit import add_refusal, departure_of
from .sessions import SessionManager

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Controls:
    """The components that the events use; `fields` are in the order of inputs.Form."""

    fields: list[gr.components.Component]
    talk: gr.Button
    player: gr.HTML
    stop: gr.Button
    more: gr.Group
    next_text: gr.Textbox
    next_spoken: gr.HTML
    proceed: gr.Button
    clip: gr.Video
    preflight: gr.HTML
    look: FramingControls
    spoken: gr.HTML
    language: gr.Radio | None


def connect(demo: gr.Blocks, sessions: SessionManager, c: Controls) -> None:
    """Connect the components to the session manager."""
    add_refusal(sessions.limits.waiting)
    stage = [c.player, c.stop, c.more, c.clip]
    talk, proceed, generate = _endpoints(sessions)
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
        sessions.stop(session_id_of(request))

    def forget(request: gr.Request) -> None:
        sessions.forget(session_id_of(request))

    c.stop.click(stop, **QUIET)
    demo.unload(forget)
    framing.connect(sessions, c.fields[0], c.look, c.player)
    _connect_preflight(demo, sessions, c)
    _, text, sound, use, *_ = c.fields
    spoken.connect(sessions, text, c.spoken, c.language, (sound, use), [demo.load])
    spoken.connect(sessions, c.next_text, c.next_spoken, c.language)


def _endpoints(sessions: SessionManager) -> tuple[Callable, Callable, Callable]:
    def talk(request: gr.Request, *values: Any) -> Iterator[Any]:
        with user_errors():
            form = Form(*values)
            wanted = form.request(sessions.limits)
            stream = sessions.begin(session_id_of(request), wanted, form.face_number())
            yield from _show(sessions, request, stream)

    def proceed(text: str, request: gr.Request) -> Iterator[Any]:
        with user_errors():
            yield from _show(sessions, request, sessions.proceed(session_id_of(request), text))

    def generate(
        picture: str, text: str, request: gr.Request, sound: str | None = None,
        sound_use: str = DRIVES, emotion: str = "neutral", motion: str = "calm", steps: float = 4,
        seed: float = 0, guidance: float = 0, seconds: float = 0, window: float = 0,
        size: float = SIZE, framing: str = WHOLE, face: float = 1, language: str = AUTOMATIC,
    ) -> str:  # fmt: skip
        """Make a whole clip and return it as an MP4 file with its settings as JSON in the comment.

        Args:
            picture: an uploaded picture of any size and shape with a face in it; it is kept whole.
            text: what they say, in a language of the checkpoint; what of it cannot be spoken is named as
                "unspoken" in the settings. It may be empty when a sound drives the lips.
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
            language: of the text, where the checkpoint speaks several: "auto", "en" or "ja".
        """
        form = Form(
            picture, text, sound, sound_use, emotion, motion, steps, seed, guidance, seconds,
            window, size, framing, face, language,
        )  # fmt: skip
        session_id = f"api-{secrets.token_urlsafe(16)}"
        with user_errors():
            path = _whole_clip(sessions, session_id, form, departure_of(request))
        sessions.release(session_id)
        return path

    return talk, proceed, generate


def _whole_clip(sessions: SessionManager, session_id: str, form: Form, departure: Departure) -> str:
    """Stream to the end and return the path of the clip."""
    try:
        stream = sessions.begin(session_id, form.request(sessions.limits), form.face_number())
        for _ in while_there(departure, stream, lambda: sessions.forget(session_id)):
            pass
    except ValueError:
        raise
    except Exception as error:
        # What was made is returned, and its metadata says why it ended early.
        session = sessions.session_of(session_id)
        if session is None or not session.film.size:
            log.exception("A stream could not be started.")
            sessions.forget(session_id)
            raise ValueError(failure(error)) from error
    session = sessions.session_of(session_id)
    if session is None:
        raise ValueError("The server is too busy: the film was dropped.")
    return str(sessions.save(session))


def _show(
    sessions: SessionManager, request: gr.Request, stream: Generator[Progress, None, None]
) -> Iterator[Any]:
    """Yield the outputs of the page while a stream runs, and the clip when it ends or fails."""
    session_id = session_id_of(request)
    stream = while_there(departure_of(request), stream, lambda: sessions.forget(session_id))
    running = (gr.update(interactive=True), gr.update(visible=False), gr.update())
    progress = session = None
    try:
        for progress in stream:
            session = session or sessions.session_of(session_id)
            if not progress.done:
                yield progress.message(), *running
    except ValueError:
        raise
    except Exception as error:
        if session and sessions.session_of(session_id) is not session:
            return
        if progress is None or not progress.made:
            log.exception("A stream could not be started.")
            raise gr.Error(failure(error), print_exception=False) from error
        gr.Warning(f"{failure(error)} What was made until then is kept.")
    # Where several films are made at a time, the visitor may have begun another one meanwhile.
    if session is None or progress is None or sessions.session_of(session_id) is not session:
        return
    finished = progress if progress.done else progress.broken_off()
    may_continue = gr.update(visible=not session.broken)
    clip = gr.update(value=str(sessions.save(session)), visible=True)
    yield finished.message(), gr.update(interactive=False), may_continue, clip


def _failed() -> tuple[str, Any]:
    return failed_message(), gr.update(interactive=False)


def _connect_preflight(demo: gr.Blocks, sessions: SessionManager, c: Controls) -> None:
    def predict(*values: Any) -> str:
        form = Form(*values)
        try:
            request = form.planned(sessions.limits)
            return preflight(sessions.plan(request), sessions.latency, request)
        except ValueError as error:
            under_text = spoken.problem(sessions, form.text or "", form.language)
            told = str(error) == under_text
            return preflight_problem(form.steps or 1, "" if told else str(error))

    def tick(*values: Any) -> tuple[str, gr.Timer]:
        return predict(*values), gr.Timer(active=not sessions.latency.known)

    picture, text, sound, use, _, _, steps, _, guidance, seconds, _, *look = c.fields
    asked = (picture, text, sound, use, steps, guidance, seconds, *look)
    gr.on(
        [demo.load, *(field.change for field in asked)],  # pyright: ignore[reportAttributeAccessIssue] # set at run time
        predict, c.fields, c.preflight, trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    timer = gr.Timer(2)
    timer.tick(tick, c.fields, [c.preflight, timer], **QUIET)
