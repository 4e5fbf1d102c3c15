"""Streams advanced together are what they are alone: of any length, text, steps, guidance and driving."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import portraits
import pytest
import torch
from films import assert_same

from mutual_forcing import AVChunk, StreamingGenerator, StreamState
from mutual_forcing.batching import StreamBatch, stream_together
from mutual_forcing.models.kv_cache import KVCache, StackedCaches
from mutual_forcing.shared_model import SharedModel
from mutual_forcing.types import AVLatents, GenerationRequest

TOLERANCE = 1e-5
VOICE = 0.1 * np.sin(np.arange(48_000) / 20).astype(np.float32)


@pytest.fixture(scope="module")
def generator(lively_generator) -> StreamingGenerator:
    return lively_generator


def requests() -> list[GenerationRequest]:
    base = GenerationRequest(
        portraits.portrait(), "Hello there.", steps=4, seconds=1.92, size=128, framing="face"
    )
    return [
        base,
        replace(base, text="A much longer sentence, said by another one.", seconds=3.2, steps=2),
        replace(base, text="こんにちは。", seed=5, steps=1, caption="happy, lively"),
        replace(base, steps=9, seconds=1.28, guidance_scale=3.0, voice=VOICE),
        replace(base, steps=3, seconds=2.56, audio=VOICE, text=""),
        replace(base, steps=10, guidance_scale=1.0, window=2),
    ]


def alone(
    generator: StreamingGenerator, request: GenerationRequest
) -> tuple[StreamState, list[AVChunk]]:
    state = generator.start(request)
    return state, list(generator.stream(state=state))


def together(generator: StreamingGenerator, states: list[StreamState]) -> dict[int, list[AVChunk]]:
    batch, chunks = StreamBatch(generator), {id(state): [] for state in states}
    for state in states:
        batch.add(state)
    while len(batch):
        for state, chunk in batch.advance():
            chunks[id(state)].append(chunk)
    return chunks


def close(ours: StreamState, theirs: StreamState) -> None:
    """Their caches hold the same latents, keys and values."""
    assert ours.index == theirs.index and ours.cache.length == theirs.cache.length
    assert (ours.cache.last - theirs.cache.last).abs().max() < TOLERANCE
    for layer, expected in zip(ours.cache.layers, theirs.cache.layers, strict=True):
        for name, pair in layer.items():
            for x, y in zip(pair, expected[name], strict=True):
                assert x.shape == y.shape and (x - y).abs().max() < TOLERANCE, name


@pytest.mark.slow
def test_another_seed_makes_another_film(generator) -> None:
    films = [alone(generator, replace(requests()[0], seed=seed)) for seed in (1, 2)]
    with pytest.raises(AssertionError):
        assert_same(films[0][1], films[1][1], exactly=False)


@pytest.mark.slow
def test_together_is_alone(generator) -> None:
    expected = [alone(generator, request) for request in requests()]
    states = [generator.start(request) for request in requests()]
    chunks = together(generator, states)
    for state, (other, theirs) in zip(states, expected, strict=True):
        close(state, other)
        assert_same(chunks[id(state)], theirs, exactly=False)
    lengths = {len(theirs) for _, theirs in expected}
    assert len(lengths) > 3, "they end at different times"


@pytest.mark.slow
def test_the_streams_differ_so_that_a_wrong_row_would_show(generator) -> None:
    lasts = [alone(generator, request)[0].cache.last[0] for request in requests()[:3]]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (lasts[one] - lasts[other]).abs().max() > 100 * TOLERANCE


@pytest.mark.slow
def test_one_joins_late_and_one_leaves_in_the_middle(generator) -> None:
    early, late, leaver = requests()[1], requests()[0], replace(requests()[2], steps=3)
    expected = [alone(generator, request) for request in (early, late, leaver)]
    states = [generator.start(request) for request in (early, late, leaver)]
    batch, made = StreamBatch(generator), {id(state): [] for state in states}
    batch.add(states[0])
    batch.add(states[2])
    while len(made[id(states[0])]) < 2:
        for state, chunk in batch.advance():
            made[id(state)].append(chunk)
    batch.add(states[1])
    for state, chunk in batch.advance():
        made[id(state)].append(chunk)
    assert batch._chunks[id(states[2])] is not None, "it is in the middle of a chunk"
    batch.remove(states[2])
    while len(batch):
        for state, chunk in batch.advance():
            made[id(state)].append(chunk)
    made[id(states[2])] += generator.stream(state=states[2])
    for state, (other, theirs) in zip(states, expected, strict=True):
        close(state, other)
        assert_same(made[id(state)], theirs, exactly=False)


@pytest.mark.slow
def test_a_stream_is_steered_between_its_chunks(generator) -> None:
    """Into guided mode and back, beside one that goes on as it was."""
    plain, changed = requests()[1], replace(requests()[0], seconds=2.56)

    def steered(state: StreamState, index: int) -> None:
        if index == 0:
            generator.steer(state, steps=9, caption="sad")
        if index == 2:
            generator.steer(state, steps=2)

    expected = generator.start(changed)
    theirs = []
    for chunk in generator.stream(state=expected):
        theirs.append(chunk)
        steered(expected, chunk.index)
    batch, ours = StreamBatch(generator), []
    states = [generator.start(changed), generator.start(plain)]
    for state in states:
        batch.add(state)
    while len(batch):
        for state, chunk in batch.advance():
            if state is states[0]:
                ours.append(chunk)
                steered(state, chunk.index)
    assert [chunk.nfe for chunk in ours] == [4, 18, 18, 2]
    close(states[0], expected)
    assert_same(ours, theirs, exactly=False)
    close(states[1], alone(generator, plain)[0])


@pytest.mark.slow
def test_an_abandoned_stream_leaves(generator) -> None:
    batch = StreamBatch(generator)
    states = [generator.start(request) for request in requests()[:2]]
    for state in states:
        batch.add(state)
    batch.advance()
    states[0].abandoned = lambda: True
    batch.advance()
    assert len(batch) == 1 and states[0].index == 0
    assert StreamBatch(generator).advance() == []


def test_requests_are_streamed_by_number(generator) -> None:
    asked = [replace(request, seconds=0.64 * n) for n, request in enumerate(requests()[:3], 1)]
    numbers = [number for number, _ in stream_together(generator, asked)]
    assert sorted(numbers) == [0, 1, 1, 2, 2, 2]


def test_shorter_pasts_are_padded_before_their_first_chunk() -> None:
    caches = []
    for chunks in (1, 3):
        cache = KVCache(window=4)
        for number in range(chunks):
            tokens = torch.full((1, 1, 2, 1), float(number))
            keys = {"video": (tokens[..., None], tokens[..., None])}
            cache.append([keys], AVLatents(tokens, None))
        caches.append(cache)
    stacked = StackedCaches([(caches[0], 0), (caches[1], 0)])
    past = stacked.past(0, {})
    assert past.offsets == (-3, -2, -1)
    assert past.valid.tolist() == [[False, False, True], [True, True, True]]
    assert past.branches["video"][0][0, :, :, 0, 0, 0].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert stacked.previous(None).tokens[0, :, 0, 0].tolist() == [0, 2]
    assert StackedCaches([(caches[1], 0)] * 2).past(0, {}).valid is None


@pytest.mark.slow
def test_threads_share_a_model(generator) -> None:
    """One reads slowly, one closes early, one asks for what cannot be; each gets what it would alone."""
    asked = requests()[:3]
    expected = [alone(generator, request) for request in asked]
    model = SharedModel(generator)
    try:
        states = [model.start(request) for request in asked]
        slow = model.stream(states[0])
        early = model.stream(states[1])
        with ThreadPoolExecutor(3) as pool:
            whole = pool.submit(lambda: list(model.stream(states[2])))
            ours = [next(slow)]
            begun = [next(early)]
            early.close()
            assert_same(whole.result(), expected[2][1], exactly=False)
        assert states[0].index <= 1 + 2, "a stream rests while nobody reads it"
        assert_same(ours + list(slow), expected[0][1], exactly=False)
        assert_same([*begun, *model.stream(states[1])][-1:], expected[1][1][-1:], exactly=False)
        left = model.start(asked[1])
        left.abandoned = lambda: left.index > 0
        assert len(list(model.stream(left))) == 1
        with pytest.raises(ValueError, match="nothing that can be spoken"):
            model.start(replace(asked[0], text="☃", seconds=None))
    finally:
        model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.start(asked[0])
