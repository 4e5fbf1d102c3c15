"""Sampling the next chunk while this one's frames are made changes nothing but the time it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator, streaming
from mutual_forcing.streaming import AbandonedError

TEXT = "One two three four five six seven eight nine ten."


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def joined(chunks: Sequence[AVChunk]) -> tuple[np.ndarray, np.ndarray]:
    frames, sounds = zip(*((chunk.frames, chunk.audio) for chunk in chunks), strict=True)
    return np.concatenate(frames), np.concatenate(sounds)


def steered(generator: StreamingGenerator, request: GenerationRequest) -> list[AVChunk]:
    """A stream that is steered, stopped, and given more to say."""
    state = generator.start(request)
    stream = generator.stream(state=state)
    chunks = [next(stream) for _ in range(3)]
    generator.steer(state, caption="sad", steps=9)
    chunks += [next(stream), next(stream)]
    stream.close()
    generator.extend(state, "And more.")
    return chunks + list(generator.stream(state=state))


def test_what_is_sampled_ahead_is_what_would_have_come(
    random_generator, picture, monkeypatch, two_threads
) -> None:
    request = GenerationRequest(picture, text=TEXT, steps=2, size=128, seconds=4.4)
    asked = []
    sample = streaming.sample_chunk

    def counted(*args: Any) -> Any:
        asked.append(threading.current_thread().name)
        return sample(*args)

    monkeypatch.setattr(streaming, "sample_chunk", counted)
    ahead = steered(random_generator, request)
    workers = sum(name.startswith("worker") for name in asked)
    assert workers > len(ahead) / 2, "most chunks were sampled beside the one before"
    assert len(asked) > len(ahead), "what was steered away was sampled again"
    monkeypatch.setattr(streaming, "AHEAD_THREADS", 0)
    plain = steered(random_generator, request)
    assert len(asked) < len(plain) + len(ahead) + workers
    for mine, other in zip(joined(ahead), joined(plain), strict=True):
        assert np.array_equal(mine, other)


def test_a_chunk_that_fails_can_be_made_again(
    random_generator, picture, monkeypatch, two_threads
) -> None:
    request = GenerationRequest(picture, text=TEXT, steps=2, size=128, seconds=4.4)
    wanted = list(random_generator.stream(request))
    state = random_generator.start(request)
    first = next(random_generator.stream(state=state))
    with monkeypatch.context() as patch:
        patch.setattr(random_generator, "_decode_video", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(random_generator.stream(state=state))
    assert state.index == 1
    made = [first, *random_generator.stream(state=state)]
    for mine, other in zip(joined(made), joined(wanted), strict=True):
        assert np.array_equal(mine, other)


def test_a_stream_that_is_given_up_keeps_the_chunk_that_is_whole(
    random_generator, picture, monkeypatch, two_threads
) -> None:
    state = random_generator.start(
        GenerationRequest(picture, text=TEXT, steps=2, size=128, seconds=4.4)
    )
    stream = random_generator.stream(state=state)
    next(stream)
    # Sampling this chunk asks twice, sampling the next one is given up.
    answers = iter([False, False])
    state.abandoned = lambda: next(answers, True)
    assert next(stream).index == 1
    with pytest.raises(AbandonedError):
        next(stream)
