"""Live streams, without a browser: what is changed while they run is obeyed by the next chunk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import gradio as gr
import numpy as np
import portraits
import pytest
import torch

from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.demo import live_tab
from mutual_forcing.demo.components import session_id_of
from mutual_forcing.demo.live import LiveManager
from mutual_forcing.demo.live_stream import LiveLimits
from mutual_forcing.demo.live_tab import _run_to_end, _show, _steering
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import read_image
from mutual_forcing.types import Steering

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> StreamingGenerator:
    return random_generator


@pytest.fixture(scope="module")
def request_() -> GenerationRequest:
    return GenerationRequest(read_image(FACE), "Hello.", caption="neutral, calm", size=256, steps=1)


def test_a_change_between_chunks_holds_for_the_next_and_not_before(served_generator, request_):
    generator = served_generator  # random weights do not listen to captions
    plain, changed = generator.start(request_), generator.start(request_)
    first = [next(generator.stream(state=s)).audio for s in (plain, changed)]
    assert np.array_equal(*first)
    generator.steer(changed, caption="angry, lively")
    second = [next(generator.stream(state=s)) for s in (plain, changed)]
    assert not np.array_equal(second[0].audio, second[1].audio)
    generator.steer(changed, steps=2)
    generator.extend(changed, "More.")
    assert next(generator.stream(state=changed)).nfe == 2
    with pytest.raises(ValueError, match="between 1 and 50"):
        generator.steer(changed, steps=99)
    assert changed.request.steps == 2, "a refused change changes nothing"


@pytest.mark.slow
def test_after_twenty_seconds_of_rest_the_next_words_come_soon(generator, request_):
    """The stream is made only shortly before it is watched, however long it rested."""
    manager, asked = LiveManager(SessionManager(generator)), []
    began = time.monotonic()

    def act(update) -> None:
        if time.monotonic() - began > 20 and not asked:
            asked.append((manager.say("visitor", "Good night."), len(update.moments)))
        elif asked and update.moments[-1].start > asked[0][0] + 1:
            manager.stop("visitor")

    last = run(manager, request_, act)[-1]
    begins, made = asked[0]
    assert begins <= (made + 2) * CHUNK_SECONDS, "after the chunk that is being made"
    assert made * CHUNK_SECONDS <= 20 + 3 + 2 * CHUNK_SECONDS, "more was made than is soon watched"
    assert [word for word, start, _ in last.words if start >= begins] == ["Good", "night"]


def test_the_mode_may_change_there_and_back(generator, request_):
    state = generator.start(request_)
    generator.extend(state, "One more sentence.")
    next(generator.stream(state=state))
    before = state.cache.layers[0]["audio"][0].clone()
    generator.steer(state, steps=9)
    keys = state.cache.layers[0]["audio"][0]
    assert (
        keys.shape[0] == 2 and torch.equal(keys[0], before[0]) and torch.equal(keys[1], before[0])
    )
    assert next(generator.stream(state=state)).nfe == 18
    keys = state.cache.layers[0]["audio"][0]
    assert not torch.equal(keys[0], keys[1]), "the unguided row has its own past now"
    generator.steer(state, steps=4)
    assert torch.equal(state.cache.layers[0]["audio"][0], keys[:1])
    assert next(generator.stream(state=state)).nfe == 4


def test_steering_to_where_one_is_changes_nothing(generator, request_):
    plain, steered = generator.start(request_), generator.start(request_)
    generator.steer(steered, steps=9)
    generator.steer(steered, steps=1, caption=request_.caption)
    a, b = (list(generator.stream(state=s)) for s in (plain, steered))
    assert all(np.array_equal(x.frames, y.frames) for x, y in zip(a, b, strict=True))


def test_a_rest_is_one_quiet_chunk(generator, request_):
    state = generator.start(request_)
    total, words = state.total, state.transcript.words
    generator.rest(state)
    assert state.total == total + 1 and state.transcript.words == words
    assert state.transcript.phonemes[-1].phoneme == "_"
    assert state.transcript.seconds == pytest.approx(state.total * CHUNK_SECONDS)
    assert len(list(generator.stream(state=state))) == total + 1
    driven = GenerationRequest(request_.image, audio=np.full(SAMPLE_RATE, 0.1, np.float32), steps=1)
    with pytest.raises(ValueError, match="ends with it"):
        generator.rest(generator.start(driven))


def caller(session_id: str) -> SimpleNamespace:
    """A request from a client that stays."""
    return SimpleNamespace(session_hash=session_id)


def run(manager: LiveManager, request: GenerationRequest, act) -> list:
    """Run a stream to its end; `act(update)` sees every message."""
    seen = []
    for update in manager.run("visitor", request):
        seen.append(update)
        act(update)
    return seen


@pytest.mark.slow
def test_text_style_and_steps_change_while_it_runs(generator, request_):
    manager, asked = LiveManager(SessionManager(generator), LiveLimits(quiet=1.0)), {}

    def act(update) -> None:
        if update.moments and not asked:
            asked["say"] = manager.say("visitor", "Good night.")
            asked["steer"] = manager.steer("visitor", "happy", "lively", 2)

    last = run(manager, request_, act)[-1]
    assert last.progress.done and "Nothing was said" in last.progress.status
    assert [word for word, _, _ in last.words] == ["Hello", "Good", "night"]
    assert last.words[1][1] >= asked["say"], "new text comes after what was there"
    for moment in last.moments:
        late = moment.start >= asked["steer"] - 1e-6
        assert (moment.steps, moment.style) == (
            (2, "happy, lively") if late else (1, "neutral, calm")
        )
    assert {m.steps for m in last.moments} == {1, 2}
    end = last.moments[-1].start + CHUNK_SECONDS
    spoken = -(-last.words[-1][2] // CHUNK_SECONDS) * CHUNK_SECONDS
    assert 1.0 <= end - spoken <= 1.0 + 3 * CHUNK_SECONDS, "quiet for as long as allowed"


def test_the_clip_tells_what_was_changed(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=0.6))

    def act(update) -> None:
        if len(update.moments) == 1:
            manager.steer("visitor", steps=2)

    last = run(manager, request_, act)[-1]
    clip = manager.save("visitor")
    with av.open(str(clip)) as film:
        settings = json.loads(film.metadata["comment"])
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == 16 * len(last.moments)
    assert settings["ai_generated"] and settings["text"] == "Hello."
    assert [change["steps"] for change in settings["changes"]] == [1, 2]
    manager.forget("visitor")
    assert not clip.exists()


def test_a_portrait_stays_one_and_its_stream_keeps_nothing_large(generator, tmp_path):
    path = portraits.save(portraits.portrait(), tmp_path / "tall.png")
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=0.1))
    *_, (*_, shown) = _show(
        manager, caller("page"), path, "Hi.", "happy", "calm", 1, 256, "whole", 1
    )
    with av.open(shown["value"]) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (256, 456)
        settings = json.loads(film.metadata["comment"])
    assert (settings["size"], settings["framing"], settings["face"]) == (256, "whole", 1)
    state = manager._streams.get("page")._state
    assert state.canvas is None and state.cache is None and state.request.image.nbytes < 1000


@pytest.mark.slow
def test_a_face_that_cannot_be_used_loses_nothing(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=0.1))
    run(manager, request_, lambda update: None)
    videos = set(manager.sessions.videos._videos)
    with pytest.raises(ValueError, match="cut off"):
        run(manager, replace(request_, image=portraits.cut_off()), lambda update: None)
    assert set(manager.sessions.videos._videos) == videos and manager.save("visitor") is not None


def test_a_wrong_request_loses_nothing(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=0.6))
    run(manager, request_, lambda update: None)
    clip = manager.save("visitor")
    with pytest.raises(ValueError, match="spoken"):
        run(manager, replace(request_, text="?!"), lambda update: None)
    assert clip.exists() and manager.save("visitor") is not None


def test_stop_ends_it_and_keeps_the_clip(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=60))
    last = run(manager, request_, lambda update: update.moments and manager.stop("visitor"))[-1]
    assert last.progress.done and "Stopped" in last.progress.status
    assert len(last.moments) <= 3
    assert manager.save("visitor") is not None
    with pytest.raises(ValueError, match="start the stream"):
        manager.say("visitor", "Too late.")
    with pytest.raises(ValueError, match="start the stream"):
        manager.say("somebody else", "Hello.")


@pytest.mark.slow
def test_it_does_not_run_away_from_the_viewer(generator, request_):
    """Made no faster than watched: else a change would be heard long after it was asked for."""
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=60))
    began: list[float] = []

    def act(update) -> None:
        if update.moments:
            began.append(time.monotonic())
            watched = began[-1] - began[0]
            assert update.progress.made - watched < 4.5
            if update.progress.made > 4:
                manager.stop("visitor")

    run(manager, request_, act)


def test_the_longest_stream_is_bounded(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=60, longest=1.5))
    last = run(manager, request_, lambda update: None)[-1]
    assert len(last.moments) == 3 and "at most" in last.progress.status


def test_the_work_for_one_stream_is_bounded(generator, request_):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=60, minutes=1e-6))
    last = run(manager, request_, lambda update: None)[-1]
    assert len(last.moments) <= 1 and "minutes of work for one request" in last.progress.status


class FailsAtThirdChunk(StreamingGenerator):
    """A generator that fails at its third chunk."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            yield chunk


@pytest.mark.slow
def test_a_failure_keeps_what_was_made_and_the_clip_says_so(generator, request_, monkeypatch):
    warned = []
    monkeypatch.setattr("mutual_forcing.demo.live_tab.gr.Warning", warned.append)
    sessions = SessionManager(FailsAtThirdChunk(generator.system, generator.device))
    manager = LiveManager(sessions, LiveLimits(quiet=60))
    last = _run_to_end(manager, caller("api"), request_)
    clip = manager.save("api")
    with av.open(str(clip)) as film:
        settings = json.loads(film.metadata["comment"])
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == 32 == 16 * len(last.moments)
    assert settings["ended_early"] == "The machine ran out of memory."

    *_, (player, _, start, stop, *_, shown) = _show(
        manager, caller("page"), str(FACE), "Hello.", "happy", "calm", 1
    )
    message = json.loads(player)
    assert message["done"] and message["status"]["key"] == "stream.ended-early"
    assert start["interactive"] and not stop["interactive"] and Path(shown["value"]).is_file()
    assert warned == ["The machine ran out of memory. What was made until then is kept."]
    sessions.close()
    assert not clip.exists()


@pytest.mark.slow
def test_files_of_callers_who_never_leave_are_removed(generator, request_, monkeypatch):
    monkeypatch.setattr("mutual_forcing.demo.live._MAX_STREAMS", 2)
    sessions = SessionManager(generator)
    manager, clips = LiveManager(sessions, LiveLimits(quiet=0.1)), []
    for number in range(3):
        list(manager.run(f"caller-{number}", request_))
        clips.append(manager.save(f"caller-{number}"))
    assert [clip.exists() for clip in clips] == [False, True, True]
    assert len(sessions.videos._videos) == 2, "their bytes are gone as well"
    sessions.close()
    assert not any(clip.exists() for clip in clips)


@pytest.mark.slow
def test_a_face_is_asked_for_something_while_it_talks(generator, request_):
    """As `/live_pose` does: held from the second that it returns, and no other one."""
    manager, asked = LiveManager(SessionManager(generator), LiveLimits(quiet=1.0)), []

    def act(update) -> None:
        if update.moments and not asked:
            asked.append(manager.pose("visitor", Steering(turn_right=1.0)))
            stream = manager._streams.get("visitor")
            assert stream._state.request.steering == Steering()

    run(manager, request_, act)
    request = manager._streams.get("visitor")._state.request
    assert request.steering == Steering(turn_right=1.0) and request.steps == request_.steps
    changes = manager._streams.get("visitor").settings()["changes"]
    assert "steering" not in changes[0] and changes[1]["steering"] == {"turn_right": 1.0}
    assert changes[1]["seconds"] == pytest.approx(asked[0], abs=0.01)
    assert asked[0] % CHUNK_SECONDS == pytest.approx(0, abs=1e-6) and asked[0] > 0
    with pytest.raises(ValueError, match="start the stream"):
        manager.pose("visitor", Steering())
    with pytest.raises(ValueError, match="smile must be a number from -1 to 1"):
        _steering(0, 0, 0, 0, 0, 0, 7, 0)


@pytest.mark.slow
def test_a_stream_of_the_page_begins_as_its_sliders_say(generator):
    manager = LiveManager(SessionManager(generator), LiveLimits(quiet=0.1))
    values = str(FACE), "Hi.", "happy", "calm", 1
    list(_show(manager, caller("page"), *values, steering=Steering(smile=0.5)))
    assert manager._streams.get("page")._state.request.steering.smile == 0.5


@pytest.mark.slow
def test_wrong_changes_are_refused_and_the_stream_goes_on(generator, request_):
    manager, refused = LiveManager(SessionManager(generator), LiveLimits(quiet=1.0)), []

    def act(update) -> None:
        if update.moments and not refused:
            for wrong in (
                lambda: manager.say("visitor", "😀"),
                lambda: manager.steer("visitor", "bored", "calm", 4),
                lambda: manager.steer("visitor", "happy", "calm", 0),
                lambda: manager.steer("visitor", "happy", "calm", float("nan")),
            ):
                with pytest.raises(ValueError) as error:
                    wrong()
                refused.append(str(error.value))

    last = run(manager, request_, act)[-1]
    assert len(refused) == 4 and all("\n" not in sentence for sentence in refused)
    assert {(m.steps, m.style) for m in last.moments} == {(1, "neutral, calm")}


@pytest.mark.slow
def test_a_viewer_who_leaves_frees_the_model(generator, request_):
    sessions = SessionManager(generator)
    stream = LiveManager(sessions, LiveLimits(quiet=60)).run("visitor", request_)
    next(stream), next(stream)
    stream.close()
    done = threading.Event()
    again = sessions.begin("other", GenerationRequest(request_.image, "Hi.", steps=1, seconds=0.6))
    threading.Thread(target=lambda: (list(again), done.set()), daemon=True).start()
    assert done.wait(300)


def test_the_player_listens_to_this_tabs_buttons(generator):
    with gr.Blocks() as demo:
        live_tab.build(demo, SessionManager(generator))
    player = next(b for b in demo.blocks.values() if b.elem_id == "live-player")
    assert player.props["start_button"] == "live-start"
    assert player.props["stop_button"] == "live-stop" and not player.props["continue_button"]
    assert "press Start" in player.props["idle"]


def test_callers_without_a_session_share_nothing():
    with pytest.raises(gr.Error, match="belongs to no session"):
        session_id_of(gr.Request(session_hash=None))
    assert session_id_of(gr.Request(session_hash="mine")) == "mine"
