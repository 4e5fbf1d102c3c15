"""The layout and the events of the Live tab."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from mutual_forcing.types import MAX_STEPS, GenerationRequest, Steering

from . import framing, inputs, spoken
from .components import (
    MODEL,
    QUIET,
    character,
    read,
    session_id_of,
    style,
    user_errors,
    video_player,
)
from .gpu import leased
from .inputs import DRIVES, SIZE, WHOLE, Form, slow_size
from .leaving import while_there
from .live import LiveManager
from .live_stream import LiveUpdate
from .progress import failed_message, failure
from .rate_limit import departure_of
from .sessions import SessionManager
from .texts import Phrase
from .texts import text as t

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

log = logging.getLogger(__name__)
_POSE = tuple(field.name for field in fields(Steering))
_TEXT = "Hello, I am live. Type something, and I will say it next."


@dataclass(frozen=True)
class _Controls:
    """The components that the events use."""

    picture: gr.Image
    text: gr.Textbox
    spoken: gr.HTML
    emotion: gr.Dropdown
    motion: gr.Radio
    steps: gr.Slider
    pose: list[gr.Slider]
    let_go: gr.Button
    look: framing.FramingControls
    expect: gr.HTML
    start: gr.Button
    stop: gr.Button
    player: gr.HTML
    timeline: gr.HTML
    more: gr.Textbox
    more_spoken: gr.HTML
    say: gr.Button
    clip: gr.Video


def build(demo: gr.Blocks, sessions: SessionManager) -> None:
    """Build the tab's content inside the open `gr.Tab` and connect its events."""
    if leased():
        gr.Markdown(t("live.borrowed"), elem_id="live-borrowed")
        return
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            asked = _request_column(sessions.generator)
        with gr.Column(scale=5, min_width=320):
            shown = _stage_column(sessions.generator)
    _connect(demo, LiveManager(sessions), _Controls(**asked, **shown))


def _request_column(generator: StreamingGenerator) -> dict[str, Any]:
    picture = character("live-character", "live-characters")
    look = framing.build("live")
    with gr.Group():
        text = gr.Textbox(
            _TEXT, label=t("ask.text-first"), lines=2, max_lines=6, max_length=inputs.MAX_TEXT,
            placeholder=spoken.placeholder(generator), elem_id="live-text",
        )  # fmt: skip
        line = spoken.build("live-text")
    with gr.Group():
        emotion, motion = style("live")
        steps = gr.Slider(
            1, min(MAX_STEPS, generator.max_steps), value=4, step=1, label=t("ask.steps"),
            elem_id="live-steps", info=t("ask.steps-live"),
        )  # fmt: skip
        expect = gr.HTML("", visible=False, elem_id="live-expect")
    pose, let_go = _pose()
    return {
        "picture": picture, "text": text, "spoken": line, "emotion": emotion, "motion": motion,
        "steps": steps, "pose": pose, "let_go": let_go, "look": look, "expect": expect,
    }  # fmt: skip


def _pose() -> tuple[list[gr.Slider], gr.Button]:
    """What the face is asked for, in the order of Steering."""
    with gr.Accordion(t("ask.pose"), open=False, elem_id="live-pose"):
        sliders = [
            gr.Slider(
                0 if name == "eyes_shut" else -1, 1, value=0, step=0.05, label=t(f"pose.{name}"),
                elem_id=f"live-pose-{name.replace('_', '-')}", min_width=140, buttons=[],
            )
            for name in _POSE
        ]  # fmt: skip
        let_go = gr.Button(t("do.let-go"), elem_id="live-let-go", size="sm")
    return sliders, let_go


def _stage_column(generator: StreamingGenerator) -> dict[str, Any]:
    player = video_player(
        "live-player", "player.idle-live", start_button="live-start", stop_button="live-stop"
    )
    timeline = gr.HTML(
        value="", html_template=read("live_timeline.html"),
        css_template=read("live_timeline.css"), js_on_load=read("live_timeline.js"),
        elem_id="live-timeline",
    )  # fmt: skip
    with gr.Row(equal_height=True):
        more = gr.Textbox(
            placeholder=spoken.next_placeholder(generator), show_label=False, scale=4, container=False,
            min_width=160, max_length=inputs.MAX_TEXT, elem_id="live-more",
            label=t("ask.text-next"),
            interactive=False,
        )  # fmt: skip
        say = gr.Button(t("do.say"), scale=1, min_width=90, elem_id="live-say", interactive=False)
    more_line = spoken.build("live-more")
    with gr.Row(elem_classes="mf-actions"):
        start = gr.Button(
            t("do.start"), variant="primary", scale=3, min_width=160, elem_id="live-start",
            elem_classes="mf-big",
        )  # fmt: skip
        stop = gr.Button(
            t("do.stop"), variant="stop", scale=1, min_width=90, interactive=False,
            elem_id="live-stop", elem_classes="mf-big",
        )  # fmt: skip
    clip = gr.Video(
        label=t("result.clip"), buttons=["download"], interactive=False, visible=False,
        elem_id="live-clip",
    )  # fmt: skip
    return {
        "player": player, "timeline": timeline, "more": more,
        "more_spoken": more_line, "say": say, "start": start, "stop": stop, "clip": clip,
    }  # fmt: skip


def _connect(demo: gr.Blocks, manager: LiveManager, c: _Controls) -> None:
    on_page, live = _stream_endpoints(manager)
    asked = [c.picture, c.text, c.emotion, c.motion, c.steps, *c.look.fields]
    outputs = [c.player, c.timeline, c.start, c.stop, c.more, c.say, c.clip]
    event = c.start.click(on_page, [*c.pose, *asked], outputs, api_visibility="private", **MODEL)
    event.failure(_failed, outputs=outputs[:1] + outputs[2:6], **QUIET)
    events = gr.JSON(visible=False, label="Timeline")
    gr.Button(visible=False).click(
        live, asked, [c.clip, events], api_name="live", **MODEL, **_listed(manager)
    )

    def forget(request: gr.Request) -> None:
        manager.forget(session_id_of(request))

    demo.unload(forget)
    framing.connect(manager.sessions, c.picture, c.look, c.player)
    _connect_expectation(demo, manager, c)
    spoken.connect(manager.sessions, c.text, c.spoken)
    spoken.connect(manager.sessions, c.more, c.more_spoken)
    _connect_changes(manager, c)


def _connect_expectation(demo: gr.Blocks, manager: LiveManager, c: _Controls) -> None:
    """Warn before the start if the stream cannot be made in real time."""

    def expect(*values: Any) -> Any:
        picture, steps, *look = values
        try:
            request = _form(picture, "-", "neutral", "calm", steps, *look).planned()
            slow = slow_size(manager.sessions.latency, request)
        except ValueError:  # Reported when the stream starts.
            slow = ""
        said = slow.html() if isinstance(slow, Phrase) else ""
        html = f'<div class="mf-preflight" role="status">{said}</div>' if slow else ""
        return gr.update(value=html, visible=bool(slow))

    asked = [c.picture, c.steps, *c.look.fields]
    gr.on(
        [demo.load, *(field.change for field in asked)], expect, asked, c.expect,
        trigger_mode="always_last", **QUIET,
    )  # fmt: skip


def _connect_changes(manager: LiveManager, c: _Controls) -> None:
    live_say, live_steer, live_pose, live_stop = _change_endpoints(manager)

    def say_on_page(text: str, request: gr.Request) -> str:
        live_say(text, request)
        return ""

    def steer_on_page(emotion: str, motion: str, steps: float, request: gr.Request) -> None:
        if manager.running(session_id_of(request)):
            live_steer(emotion, motion, steps, request)

    gr.on([c.say.click, c.more.submit], say_on_page, c.more, c.more, **QUIET)
    changed = [c.emotion, c.motion, c.steps]
    gr.on(
        [field.change for field in changed],
        steer_on_page,
        changed,
        trigger_mode="always_last",
        **QUIET,
    )

    def pose_on_page(request: gr.Request, *values: float) -> None:
        if manager.running(session_id_of(request)):
            live_pose(*values, request)

    gr.on(
        [slider.change for slider in c.pose],
        pose_on_page,
        c.pose,
        trigger_mode="always_last",
        **QUIET,
    )
    c.let_go.click(lambda: [0.0] * len(_POSE), outputs=c.pose, **QUIET)

    def stop(request: gr.Request) -> None:
        manager.stop(session_id_of(request))

    # Not `live_stop` itself: Gradio would give its name to the first of two events.
    c.stop.click(stop, **QUIET)
    at = gr.Number(visible=False, label="Second of the stream from which it holds")
    text = gr.Textbox(visible=False, label="Text")
    public = {**QUIET, **_listed(manager)}
    gr.Button(visible=False).click(live_say, text, at, api_name="live_say", **public)
    gr.Button(visible=False).click(live_steer, changed, at, api_name="live_steer", **public)
    gr.Button(visible=False).click(live_pose, c.pose, at, api_name="live_pose", **public)
    gr.Button(visible=False).click(live_stop, api_name="live_stop", **public)


def _listed(manager: LiveManager) -> dict[str, Any]:
    """Return the API visibility. Live is no MCP tool, because all MCP clients share one Gradio session."""
    return {"api_visibility": "undocumented" if manager.sessions.limits.mcp else "public"}


def _steering(*values: float) -> Steering:
    """What the sliders or a client ask for. Raises ValueError for what no face can do."""
    return Steering(**{name: float(value) for name, value in zip(_POSE, values, strict=True)})


def _change_endpoints(manager: LiveManager) -> tuple[Callable, Callable, Callable, Callable]:
    def live_say(text: str, request: gr.Request) -> float:
        """Append text to the running live stream; return the second at which it begins.

        Args:
            text: what they say next. The timeline of `/live` names what of it cannot be spoken.
        """
        with user_errors():
            manager.sessions.limits.check_text(text)
            return manager.say(session_id_of(request), text)

    def live_steer(emotion: str, motion: str, steps: float, request: gr.Request) -> float:
        """Change the running live stream; return the second from which the change holds.

        Args:
            emotion: one of the listed emotions.
            motion: one of the listed kinds of motion.
            steps: denoising steps a chunk, 1 to 50.
        """
        with user_errors():
            return manager.steer(session_id_of(request), emotion, motion, steps)

    def live_pose(
        look_right: float, look_up: float, turn_right: float, nod_up: float, tilt_right: float,
        brows_up: float, smile: float, eyes_shut: float, request: gr.Request,
    ) -> float:  # fmt: skip
        """Ask the face of the running live stream for something; return the second from which it holds.

        Args:
            look_right: where the eyes look, beside what they do by themselves, -1 to 1 like all of these.
            look_up: the same, up and down.
            turn_right: the head to its watcher's right or left.
            nod_up: the head back or forward.
            tilt_right: the head towards one shoulder or the other.
            brows_up: up, or down and together.
            smile: a smile, or the corners of the mouth down.
            eyes_shut: how far the eyes are shut, 0 to 1.
        """
        asked = (look_right, look_up, turn_right, nod_up, tilt_right, brows_up, smile, eyes_shut)
        with user_errors():
            return manager.pose(session_id_of(request), _steering(*asked))

    def live_stop(request: gr.Request) -> None:
        """End the running live stream; `/live` then returns its clip."""
        manager.stop(session_id_of(request))

    return live_say, live_steer, live_pose, live_stop


def _stream_endpoints(manager: LiveManager) -> tuple[Callable, Callable]:
    def on_page(request: gr.Request, *values: Any) -> Iterator[tuple]:
        pose, values = values[: len(_POSE)], values[len(_POSE) :]
        with user_errors():
            yield from _show(manager, request, *values, steering=_steering(*pose))

    def live(
        picture: str, text: str, emotion: str, motion: str, steps: float, request: gr.Request,
        size: float = SIZE, framing: str = WHOLE, face: float = 1,
    ) -> tuple[str | None, dict[str, Any]]:  # fmt: skip
        """Run a live stream until it is stopped or silent; return its clip and its timeline.

        While it runs, `/live_say`, `/live_steer`, `/live_pose` and `/live_stop` of the same client change it.

        Args:
            picture: an uploaded picture of the character.
            text: what they say first. The timeline names as "unspoken" what of all texts cannot be spoken.
            emotion: one of the listed emotions.
            motion: one of the listed kinds of motion.
            steps: denoising steps a chunk, 1 to 50; up to 8 is Few mode, above is Multi mode.
            size: pixels on the film's shorter side, one of those listed; never beyond the picture's own.
            framing: "whole" for a film of the whole picture, "face" for a square around the face.
            face: which of several faces talks, from the largest, 1, to the smallest.
        """
        with user_errors():
            form = _form(picture, text, emotion, motion, steps, size, framing, face)
            wanted = form.request(manager.sessions.limits)
            last = _run_to_end(manager, request, wanted, form.face_number())
        clip = manager.save(session_id_of(request))
        return (str(clip) if clip else None), last.timeline()

    return on_page, live


def _run_to_end(
    manager: LiveManager, caller: gr.Request, request: GenerationRequest, face: int = 1
) -> LiveUpdate:
    """Run a stream and return its last update. What was made before a failure is kept."""
    last = None
    try:
        for update in _updates(manager, caller, request, face):
            last = update
    except ValueError:
        raise
    except Exception as error:
        if last is None or not last.moments:
            log.exception("A live stream could not be started.")
            raise ValueError(failure(error)) from error
    assert last is not None
    return last


def _updates(
    manager: LiveManager, caller: gr.Request, request: GenerationRequest, face: int
) -> Generator[LiveUpdate, None, None]:
    """Run the caller's stream while he is there."""
    session_id = session_id_of(caller)
    stream = manager.run(session_id, request, face)
    return while_there(departure_of(caller), stream, lambda: manager.forget(session_id))


def _form(
    picture: str | None, text: str, emotion: str, motion: str, steps: float, size: float = SIZE,
    framing: str = WHOLE, face: float = 1,
) -> Form:  # fmt: skip
    return Form(
        picture=picture, text=text, sound=None, sound_use=DRIVES, emotion=emotion, motion=motion,
        steps=steps, seed=0, guidance=0, seconds=0, window=0, size=size, framing=framing, face=face,
    )  # fmt: skip


def _show(
    manager: LiveManager, caller: gr.Request, *values: Any, steering: Steering | None = None
) -> Iterator[tuple]:
    """Yield the outputs of the page while a stream runs, and the clip when it ends or fails."""
    update = None
    try:
        form = _form(*values)
        request = replace(form.request(manager.sessions.limits), steering=steering or Steering())
        with closing(_updates(manager, caller, request, form.face_number())) as stream:
            for update in stream:
                if not update.progress.done:
                    yield _outputs(update, running=True)
    except ValueError:
        raise
    except Exception as error:
        if update is None or not update.moments:
            log.exception("A live stream could not be started.")
            raise gr.Error(failure(error), print_exception=False) from error
        gr.Warning(f"{failure(error)} What was made until then is kept.")
        update = replace(update, progress=update.progress.broken_off())
    clip = manager.save(session_id_of(caller))
    if update is not None:
        yield _outputs(update, running=False, clip=str(clip) if clip else None)


def _outputs(update: LiveUpdate, running: bool, clip: str | None = None) -> tuple:
    switch = gr.update(interactive=running)
    return (
        update.progress.message(),
        json.dumps(update.timeline()),
        gr.update(interactive=not running),
        switch,
        switch,
        switch,
        gr.update(value=clip, visible=True) if clip else gr.skip(),
    )


def _failed() -> tuple:
    off = gr.update(interactive=False)
    return failed_message(), gr.update(interactive=True), off, off, off
