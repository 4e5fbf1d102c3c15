"""The clock of blinks: as often as people, all the way, the same chunk by chunk."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from mutual_forcing import StreamingGenerator
from mutual_forcing.blinks import (
    LONGEST_GAP,
    OPEN,
    RISE,
    SHORTEST_GAP,
    BlinkClock,
    Lid,
    draw_gap,
    find_blinks,
)
from mutual_forcing.chunks import FRAMES_PER_CHUNK
from mutual_forcing.codecs.motion_codec import BLINK
from mutual_forcing.config import FPS

MINUTES = 10
FRAMES = MINUTES * 60 * FPS
RATES = (0, 5, 17, 40, 60)
"""Blinks a minute that a model makes: it was measured to make 30 to 45."""


def made(rate: float, seed: int = 0, frames: int = FRAMES) -> np.ndarray:
    """What a model makes of eyeBlink: noise, and half and full blinks at any moment, `rate` a minute."""
    rng = np.random.default_rng(seed)
    time = (np.arange(frames) + 0.5) / FPS
    closed = np.zeros(frames)
    for moment in rng.uniform(0, frames / FPS, round(rate * frames / FPS / 60)):
        closed = np.maximum(closed, Lid.draw(rng).at(time - moment) * rng.uniform(0.4, 1.2))
    return (closed + rng.normal(0, 0.04, frames)).astype(np.float32)


def mended(track: np.ndarray, seed: int = 0) -> np.ndarray:
    return BlinkClock(seed).mend(track, BlinkClock(seed).begin())[0]


@pytest.mark.parametrize("rate", RATES)
def test_streams_blink_as_often_as_people_whatever_the_model_does(rate: float) -> None:
    blinks = find_blinks(mended(made(rate)))
    assert 12 <= len(blinks) / MINUTES <= 24
    gaps = np.diff([blink.first for blink in blinks]) / FPS
    assert gaps.min() >= SHORTEST_GAP - 2 / FPS and gaps.max() <= LONGEST_GAP + 2 / FPS
    assert gaps.std() > 0.8  # no metronome


@pytest.mark.parametrize("rate", RATES)
def test_every_blink_closes_the_eye_and_opens_it_again(rate: float) -> None:
    track = mended(made(rate))
    for blink in find_blinks(track)[:-1]:
        assert blink.peak == 1 and 3 <= blink.frames <= 6
    assert track.max() <= 1
    assert (track > OPEN).mean() < 24 / 60 * 8 / FPS


def test_blinks_of_the_model_are_kept_where_people_might_blink() -> None:
    raw = made(40)
    kept = find_blinks(mended(raw))
    near = [raw[max(0, blink.first - 2) : blink.first + 3].max() > RISE for blink in kept]
    assert np.mean(near) > 0.8


def test_a_good_blink_and_open_lids_are_left_alone() -> None:
    time = (np.arange(100) + 0.5) / FPS
    raw = (0.05 * np.sin(time) + Lid(0.1, 0.06, 0.13).at(time - 2.1)).clip(max=1)
    raw = raw.astype(np.float32)
    assert np.array_equal(mended(raw), raw)


def test_eyes_that_stay_shut_are_opened() -> None:
    track = mended(np.ones(200, np.float32))
    assert track[8:].min() <= OPEN and find_blinks(track)[0].frames <= 6


def test_chunk_by_chunk_is_the_same_as_the_whole() -> None:
    raw, clock = made(40, 3, 900 * FRAMES_PER_CHUNK), BlinkClock(7)
    whole, end = clock.mend(raw, clock.begin())
    state, parts = clock.begin(), []
    for chunk in raw.reshape(900, FRAMES_PER_CHUNK):
        part, state = BlinkClock(7).mend(chunk, state)  # a clock holds nothing but its seed
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), whole) and state == end
    crossing = [b for b in find_blinks(whole) if b.first % FRAMES_PER_CHUNK >= FRAMES_PER_CHUNK - 3]
    assert len(crossing) > 10  # blinks do lie across borders, and are whole
    assert all(blink.peak == 1 and blink.frames >= 3 for blink in crossing)


def test_the_seed_decides() -> None:
    raw = made(0)
    assert np.array_equal(mended(raw, 1), mended(raw, 1))
    assert not np.array_equal(mended(raw, 1), mended(raw, 2))


def test_the_state_cannot_be_changed_and_the_input_is_not() -> None:
    raw = made(40)
    before = raw.copy()
    mended(raw)
    assert np.array_equal(raw, before)
    with pytest.raises(FrozenInstanceError):
        BlinkClock(0).begin().frame = 1  # type: ignore[misc]


def test_gaps_are_those_of_people() -> None:
    rng = np.random.default_rng(0)
    gaps = np.array([draw_gap(rng) for _ in range(5000)])
    assert gaps.min() >= SHORTEST_GAP and gaps.max() <= LONGEST_GAP
    assert 15 < 60 / gaps.mean() < 20
    assert np.median(gaps) < gaps.mean()  # many short ones, a few long ones


def test_only_the_lids_of_the_latents_change(random_generator: StreamingGenerator) -> None:
    codec = random_generator.system.video_codec
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, codec.channels, 6 * FRAMES_PER_CHUNK, generator=generator)
    after, state = codec.mend_blinks(latents, codec.begin(0))
    assert state.blinks.frame == 6 * FRAMES_PER_CHUNK
    others = [channel for channel in range(codec.channels) if channel != BLINK]
    assert torch.equal(after[:, others], latents[:, others])
    # A random codec's latents are the motion itself.
    assert np.allclose(after[0, BLINK].numpy(), mended(latents[0, BLINK].numpy()), atol=1e-6)
    parts, at = [], codec.begin(0)
    for chunk in latents.split(FRAMES_PER_CHUNK, 2):
        part, at = codec.mend_blinks(chunk, at)
        parts.append(part)
    assert torch.equal(torch.cat(parts, 2), after) and at.blinks == state.blinks


def test_a_clock_belongs_to_one_stream(random_generator: StreamingGenerator) -> None:
    codec = random_generator.system.video_codec
    with pytest.raises(ValueError, match="one stream"):
        codec.mend_blinks(torch.zeros(2, codec.channels, FRAMES_PER_CHUNK), codec.begin(0))
