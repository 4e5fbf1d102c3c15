"""Live streams, without a browser: what is changed while they run is obeyed by the next chunk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import portraits
import pytest
import torch

from demo.live import LiveStage
from demo.live_stream import Limits
from demo.live_tab import _player_script, _show, _to_its_end
from demo.studio import Studio
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import PRETRAINED
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import read_image

FACE = Path(__file__).parents[1] / "examples" / "characters" / "01-blond-bob.png"


@pytest.fixture(scope="module")
def generator() -> StreamingGenerator:
    if (PRETRAINED / "tiny" / "config.json").is_file():
        return StreamingGenerator.from_pretrained("tiny", device="cpu")
    return StreamingGenerator.random("tiny")


@pytest.fixture(scope="module")
def request_() -> GenerationRequest:
    return GenerationRequest(read_image(FACE), "Hello.", "neutral, calm", steps=1)


def test_a_change_between_chunks_holds_for_the_next_and_not_before(generator, request_):
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
    driven = GenerationRequest(request_.image, audio=np.full(16_000, 0.1, np.float32), steps=1)
    with pytest.raises(ValueError, match="ends with it"):
        generator.rest(generator.start(driven))


def run(stage: LiveStage, request: GenerationRequest, act) -> list:
    """Run a stream to its end; `act(live)` sees every message."""
    seen = []
    for live in stage.run("visitor", request):
        seen.append(live)
        act(live)
    return seen


def test_text_style_and_steps_change_while_it_runs(generator, request_):
    stage, asked = LiveStage(Studio(generator), Limits(quiet=1.0)), {}

    def act(live) -> None:
        if live.moments and not asked:
            asked["say"] = stage.say("visitor", "Good night.")
            asked["steer"] = stage.steer("visitor", "happy", "lively", 2)

    last = run(stage, request_, act)[-1]
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
    stage = LiveStage(Studio(generator), Limits(quiet=0.6))

    def act(live) -> None:
        if len(live.moments) == 1:
            stage.steer("visitor", steps=2)

    last = run(stage, request_, act)[-1]
    clip = stage.save("visitor")
    with av.open(str(clip)) as film:
        settings = json.loads(film.metadata["comment"])
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == 16 * len(last.moments)
    assert settings["ai_generated"] and settings["text"] == "Hello."
    assert [change["steps"] for change in settings["changes"]] == [1, 2]
    stage.forget("visitor")
    assert not clip.exists()


def test_a_portrait_stays_one_and_its_stream_keeps_nothing_large(generator, tmp_path):
    path = portraits.save(portraits.portrait(), tmp_path / "tall.png")
    stage = LiveStage(Studio(generator), Limits(quiet=0.1))
    *_, (*_, shown) = _show(stage, "page", path, "Hi.", "happy", "calm", 1, 256, "whole", 1)
    with av.open(shown["value"]) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (256, 456)
        settings = json.loads(film.metadata["comment"])
    assert (settings["size"], settings["framing"], settings["face"]) == (256, "whole", 1)
    state = stage._streams["page"]._state
    assert state.canvas is None and state.cache is None and state.request.image.nbytes < 1000


def test_a_face_that_cannot_be_used_loses_nothing(generator, request_):
    stage = LiveStage(Studio(generator), Limits(quiet=0.1))
    run(stage, request_, lambda live: None)
    films = set(stage.studio.shelf._films)
    with pytest.raises(ValueError, match="cut off"):
        run(stage, replace(request_, image=portraits.cut_off()), lambda live: None)
    assert set(stage.studio.shelf._films) == films and stage.save("visitor") is not None


def test_a_wrong_request_loses_nothing(generator, request_):
    stage = LiveStage(Studio(generator), Limits(quiet=0.6))
    run(stage, request_, lambda live: None)
    clip = stage.save("visitor")
    with pytest.raises(ValueError, match="spoken"):
        run(stage, replace(request_, text="?!"), lambda live: None)
    assert clip.exists() and stage.save("visitor") is not None


def test_stop_ends_it_and_keeps_the_clip(generator, request_):
    stage = LiveStage(Studio(generator), Limits(quiet=60))
    last = run(stage, request_, lambda live: live.moments and stage.stop("visitor"))[-1]
    assert last.progress.done and "Stopped" in last.progress.status
    assert len(last.moments) <= 3
    assert stage.save("visitor") is not None
    with pytest.raises(ValueError, match="start the stream"):
        stage.say("visitor", "Too late.")
    with pytest.raises(ValueError, match="start the stream"):
        stage.say("somebody else", "Hello.")


def test_it_does_not_run_away_from_the_viewer(generator, request_):
    """Made no faster than watched: else a change would be heard long after it was asked for."""
    stage = LiveStage(Studio(generator), Limits(quiet=60))
    began: list[float] = []

    def act(live) -> None:
        if live.moments:
            began.append(time.monotonic())
            watched = began[-1] - began[0]
            assert live.progress.made - watched < 4.5
            if live.progress.made > 4:
                stage.stop("visitor")

    run(stage, request_, act)


def test_the_longest_stream_is_bounded(generator, request_):
    stage = LiveStage(Studio(generator), Limits(quiet=60, longest=1.5))
    last = run(stage, request_, lambda live: None)[-1]
    assert len(last.moments) == 3 and "at most" in last.progress.status


def test_the_work_for_one_stream_is_bounded(generator, request_):
    stage = LiveStage(Studio(generator), Limits(quiet=60, minutes=1e-6))
    last = run(stage, request_, lambda live: None)[-1]
    assert len(last.moments) <= 1 and "minutes of work for one request" in last.progress.status


class Failing(StreamingGenerator):
    """A generator that fails at its third chunk."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            yield chunk


def test_a_failure_keeps_what_was_made_and_the_clip_says_so(generator, request_, monkeypatch):
    warned = []
    monkeypatch.setattr("demo.live_tab.gr.Warning", warned.append)
    studio = Studio(Failing(generator.system, generator.device))
    stage = LiveStage(studio, Limits(quiet=60))
    last = _to_its_end(stage, "api", request_)
    clip = stage.save("api")
    with av.open(str(clip)) as film:
        settings = json.loads(film.metadata["comment"])
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == 32 == 16 * len(last.moments)
    assert settings["ended_early"] == "The machine ran out of memory."

    *_, (player, _, start, stop, *_, shown) = _show(
        stage, "page", str(FACE), "Hello.", "happy", "calm", 1
    )
    message = json.loads(player)
    assert message["done"] and message["status"]["key"] == "stream.ended-early"
    assert start["interactive"] and not stop["interactive"] and Path(shown["value"]).is_file()
    assert warned == ["The machine ran out of memory. What was made until then is kept."]
    studio.close()
    assert not clip.exists()


def test_files_of_callers_who_never_leave_are_removed(generator, request_, monkeypatch):
    monkeypatch.setattr("demo.live._KEEP", 2)
    studio = Studio(generator)
    stage, clips = LiveStage(studio, Limits(quiet=0.1)), []
    for number in range(3):
        list(stage.run(f"caller-{number}", request_))
        clips.append(stage.save(f"caller-{number}"))
    assert [clip.exists() for clip in clips] == [False, True, True]
    assert len(studio.shelf._films) == 2, "their bytes are gone as well"
    studio.close()
    assert not any(clip.exists() for clip in clips)


def test_wrong_changes_are_refused_and_the_stream_goes_on(generator, request_):
    stage, refused = LiveStage(Studio(generator), Limits(quiet=1.0)), []

    def act(live) -> None:
        if live.moments and not refused:
            for wrong in (
                lambda: stage.say("visitor", "😀"),
                lambda: stage.steer("visitor", "bored", "calm", 4),
                lambda: stage.steer("visitor", "happy", "calm", 0),
                lambda: stage.steer("visitor", "happy", "calm", float("nan")),
            ):
                with pytest.raises(ValueError) as error:
                    wrong()
                refused.append(str(error.value))

    last = run(stage, request_, act)[-1]
    assert len(refused) == 4 and all("\n" not in sentence for sentence in refused)
    assert {(m.steps, m.style) for m in last.moments} == {(1, "neutral, calm")}


def test_a_viewer_who_leaves_frees_the_model(generator, request_):
    studio = Studio(generator)
    stream = LiveStage(studio, Limits(quiet=60)).run("visitor", request_)
    next(stream), next(stream)
    stream.close()
    done = threading.Event()
    again = studio.begin("other", GenerationRequest(request_.image, "Hi.", steps=1, seconds=0.6))
    threading.Thread(target=lambda: (list(again), done.set()), daemon=True).start()
    assert done.wait(20)


def test_the_player_listens_to_this_tabs_buttons():
    script = _player_script()
    assert "#live-start" in script and "#live-stop" in script
    assert "#talk-button" not in script and "#stop-button" not in script
