"""Sessions without a browser: stop, continue, failures and memory, and the videos being watched."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.demo.sessions import SessionManager, _bytes_of
from mutual_forcing.demo.video_store import VideoStore
from mutual_forcing.types import FaceCrop

PICTURE = np.full((64, 48, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> StreamingGenerator:
    return random_generator


def video_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0)) / 25


@pytest.mark.slow
def test_stop_keeps_the_clip_and_continue_goes_on(generator):
    sessions = SessionManager(generator)
    request = GenerationRequest(PICTURE, "One sentence that is stopped before its end.", steps=1)
    stream = sessions.begin("visitor", request)
    messages = [next(stream) for _ in range(3)]
    sessions.stop("visitor")
    messages += list(stream)
    assert messages[-1].done and 2 <= messages[-1].made / CHUNK_SECONDS <= 5
    session = sessions.session_of("visitor")
    before = video_seconds(sessions.save(session))
    assert before == pytest.approx(messages[-1].made, abs=0.05)
    more = list(sessions.proceed("visitor", "And more."))
    assert more[0].continues and not messages[0].continues
    assert video_seconds(sessions.save(session)) == pytest.approx(more[-1].made, abs=0.05)
    assert more[-1].made == pytest.approx(session.state.total * CHUNK_SECONDS)
    with pytest.raises(ValueError, match="say next"):
        list(sessions.proceed("visitor", " "))
    with pytest.raises(ValueError, match="nothing to continue"):
        list(sessions.proceed("somebody else", "Hello."))


def test_a_visitor_who_leaves_ends_the_stream(generator):
    sessions = SessionManager(generator)
    stream = sessions.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=60))
    next(stream), next(stream)
    session = sessions.session_of("visitor")
    stream.close()
    assert session.abandoned.is_set() and session.broken
    again = list(
        sessions.begin("other", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=0.6))
    )
    assert again[-1].done, "the model is free again"


def test_a_failure_keeps_what_was_made(generator, monkeypatch):
    real = StreamingGenerator.stream

    def failing(self, request=None, state=None):
        for index, chunk in enumerate(real(self, request, state)):
            if index == 3:  # the first chunk comes in halves
                raise MemoryError
            yield chunk

    monkeypatch.setattr(StreamingGenerator, "stream", failing)
    sessions = SessionManager(generator)
    stream = sessions.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=5))
    with pytest.raises(MemoryError):
        list(stream)
    session = sessions.session_of("visitor")
    assert video_seconds(sessions.save(session)) == pytest.approx(2 * CHUNK_SECONDS, abs=0.05)
    with pytest.raises(ValueError, match="nothing to continue"):
        list(sessions.proceed("visitor", "More."))


@pytest.mark.slow
def test_sessions_of_large_videos_are_forgotten_before_they_fill_the_memory(generator, monkeypatch):
    sessions = SessionManager(generator)
    request = GenerationRequest(
        np.zeros((1080, 1920, 3), np.uint8),
        "Hello.",
        crop=FaceCrop(960, 540, 270),
        size=1080,
        steps=1,
        seconds=0.64,
    )
    list(sessions.begin("first", request))
    held = _bytes_of(sessions.session_of("first"))
    assert 10e6 < held < 60e6, "no frames of the video among them: a chunk alone has 100 MB"
    monkeypatch.setattr("mutual_forcing.demo.sessions._MAX_BYTES", 2.5 * held)
    for name in ("second", "third", "fourth"):
        list(sessions.begin(name, request))
    kept = [name for name in ("first", "second", "third", "fourth") if sessions.session_of(name)]
    assert kept == ["third", "fourth"]
    sessions.close()


def test_a_video_is_read_while_it_grows():
    videos = VideoStore()
    video = videos.new()
    assert len(video.id) >= 32 and video.id != videos.new().id

    async def read() -> bytes:
        return b"".join([part async for part in video.read()])

    def write() -> None:
        video.append(b"two")
        video.close()

    video.append(b"one")
    threading.Timer(0.05, write).start()
    assert asyncio.run(read()) == asyncio.run(read()) == b"onetwo"
