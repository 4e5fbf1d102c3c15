"""The latency model, and the prediction that the page derives from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import portraits
import pytest

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.demo import inputs
from mutual_forcing.demo.inputs import DRIVES, Form
from mutual_forcing.demo.latency import LatencyModel, measure, video_size
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.types import FaceCrop

PICTURE = np.full((64, 48, 3), 128, np.uint8)
CROP = FaceCrop(960, 540, 270)
HD = np.broadcast_to(np.uint8(128), (1080, 1920, 3))


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> StreamingGenerator:
    return random_generator


def test_the_prediction_is_a_plain_sentence(generator):
    latency = LatencyModel(base=0.1, few_step=0.05, guided_step=0.1, overhead=0.2)
    few = GenerationRequest(PICTURE, "Hello.", steps=4, seconds=6.4)
    text = inputs.preflight(generator.plan(few), latency, few)
    assert "Few mode" in text and "4 NFE" in text and "ahead of playback (2.1×)" in text
    many = GenerationRequest(PICTURE, "Hello.", steps=50, seconds=6.4)
    text = inputs.preflight(generator.plan(many), latency, many)
    assert "Multi mode" in text and "100 NFE" in text and "in 52 s" in text
    assert "Measuring" in inputs.preflight(generator.plan(few), LatencyModel(), few)


def test_the_prediction_follows_the_size_and_names_the_largest_that_streams(generator):
    latency = LatencyModel(
        base=0.1, few_step=0.05, guided_step=0.1, overhead=0.2, encode=0.2, animate=1.0
    )
    lines, rates = {}, {}
    for size in inputs.SIZES:
        asked = GenerationRequest(HD, "Hello.", crop=CROP, size=size, steps=4, seconds=6.4)
        lines[size] = inputs.preflight(generator.plan(asked), latency, asked)
        rates[size] = CHUNK_SECONDS / latency.chunk_seconds(asked)
    assert (
        list(rates.values()) == sorted(rates.values(), reverse=True)
        and rates[720] > 1 > rates[1080]
    )
    assert "910 × 512 pixels" in lines[512] and "ahead of playback" in lines[720]
    assert "1920 × 1080 pixels" in lines[1080] and "largest" not in lines[720]
    assert "Size 1080 cannot be made in real time on this machine; <b>720</b>" in lines[1080]
    slow = GenerationRequest(HD, "Hello.", crop=CROP, steps=50, seconds=6.4)
    assert "With 50 steps no size" in inputs.preflight(generator.plan(slow), latency, slow)
    alone = GenerationRequest(HD, "Hello.", crop=CROP, framing="face", size=1080)
    assert video_size(alone).width == 270 and latency.chunk_seconds(alone) < 0.41


def test_the_square_costs_more_than_the_picture_around_it():
    size = video_size(GenerationRequest(HD, "Hello.", crop=CROP, size=1080))
    assert (size.width, size.height) == (1920, 1080)
    assert size.animated == pytest.approx(0.27**2) and size.megapixels == pytest.approx(2.0736)
    half_outside = FaceCrop(0, 540, 270)
    outside = video_size(GenerationRequest(HD, "Hello.", crop=half_outside, size=1080))
    assert outside.animated == pytest.approx(0.27**2 / 2)


def test_the_preflight_needs_no_picture_and_follows_the_chosen_one(tmp_path):
    form = Form(None, "Hi.", None, DRIVES, "sad", "lively", 4, None, None, None, None, 720)
    assert video_size(form.planned()).width == video_size(form.planned()).height == 720
    chosen = replace(
        form, picture=portraits.save(portraits.landscape(), tmp_path / "landscape.png")
    )
    request = chosen.planned()
    assert video_size(request) == video_size(chosen.request())
    assert request.image.strides == (0, 0, 0)
    assert (video_size(request).width, video_size(request).height) == (960, 540)
    assert video_size(replace(chosen, framing="face").planned()).width < 450


@pytest.mark.slow
def test_the_machine_is_measured_at_two_sizes(generator):
    sessions = SessionManager(generator)
    latency = measure(sessions.model)
    assert latency.known and min(latency.encode, latency.animate) >= 0
    assert latency.encode + latency.animate > 0
    small, large = (
        latency.chunk_seconds(
            GenerationRequest(HD, "Hello.", crop=FaceCrop(960, 540, 1080), framing="face", size=s)
        )
        for s in (256, 1080)
    )
    assert large > 1.05 * small
    sessions.close()
