"""The expected time for a chunk: measured at start and updated by every stream."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass

import numpy as np

from mutual_forcing.canvas import film_size
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import StreamMuxer
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import FEW_MODE_MAX_STEPS, FaceCrop, Framing, GenerationRequest

from .model import ClosedError, Model

_SMALL, _LARGE = 256, 768
"""Sides of the videos that are measured."""


@dataclass(frozen=True)
class VideoSize:
    """The pixels of a video, and how many millions of them lie in the animated square."""

    width: int
    height: int
    animated: float

    @property
    def megapixels(self) -> float:
        """Millions of pixels in one frame."""
        return self.width * self.height / 1e6


def video_size(request: GenerationRequest) -> VideoSize:
    """Return the size of a request's video. A face that has not been located counts as a large one."""
    height, width = request.image.shape[:2]
    crop = request.crop or FaceCrop(width / 2, height / 2, min(width, height))
    size = film_size(request.image.shape, crop, request.framing, request.size)
    if request.framing == "face":
        return VideoSize(*size, animated=size[0] * size[1] / 1e6)
    across = (
        max(0.0, min(middle + extent / 2, length) - max(middle - extent / 2, 0)) / length
        for middle, extent, length in (
            (crop.x, crop.side, width),
            (crop.y, crop.side * crop.tall, height),
        )
    )
    share = next(across) * next(across)
    return VideoSize(*size, animated=share * size[0] * size[1] / 1e6)


@dataclass(frozen=True)
class LatencyModel:
    """A linear model of the seconds that this machine takes for a chunk.

    Attributes:
        base: seconds for every chunk.
        few_step: seconds for each denoising step without guidance.
        guided_step: seconds for each denoising step with guidance.
        overhead: seconds before the first chunk, in which the references are read.
        encode: seconds for a million pixels of the video.
        animate: seconds for a million pixels of the animated square.
    """

    base: float = 0.0
    few_step: float = 0.0
    guided_step: float = 0.0
    overhead: float = 0.0
    encode: float = 0.0
    animate: float = 0.0

    @property
    def known(self) -> bool:
        """Whether the latency has been measured."""
        return self.base > 0

    def chunk_seconds(self, request: GenerationRequest) -> float:
        """Return the expected seconds for one chunk (0.64 s of video)."""
        guided = Sampler.of(request.steps, request.guidance_scale).guided
        steps = request.steps * (self.guided_step if guided else self.few_step)
        size = video_size(request)
        return self.base + steps + size.megapixels * self.encode + size.animated * self.animate

    def after(self, request: GenerationRequest, seconds: float) -> LatencyModel:
        """Return the model after chunks of `request` took `seconds` each.

        All terms are scaled by the square root of the ratio of measured to expected seconds. Without an
        earlier measurement, everything besides the steps counts as one step.
        """
        if not self.known:
            evaluations = Sampler.of(request.steps, request.guidance_scale).nfe
            step = seconds / (1 + evaluations)
            return LatencyModel(step, step, 2 * step, step)
        ratio = seconds / self.chunk_seconds(request)
        factor = min(4.0, max(0.25, ratio)) ** 0.5
        return LatencyModel(*(value * factor for value in astuple(self)))


def measure(model: Model) -> LatencyModel:
    """Time a few chunks, with muxing, and return the latency of this machine.

    The dictionaries are loaded before, so that no visitor's text waits for one. Raises ClosedError when
    the model is closed meanwhile.
    """
    with model.place() as generator:
        generator.warm_up()
    one, few, multi = 1, 4, FEW_MODE_MAX_STEPS + 1
    _time_chunk(model, one)  # The first run also allocates memory and fills caches.
    first, chunk = zip(*(_time_chunk(model, n) for n in (one, few, multi)), strict=True)
    few_step = max(1e-4, (chunk[1] - chunk[0]) / (few - one))
    encode, animate = _time_pixels(model, chunk[0])
    small = _SMALL * _SMALL / 1e6
    base = max(1e-3, chunk[0] - few_step - small * (encode + animate))
    guided_step = max(few_step, (chunk[2] - chunk[0] + few_step) / multi)
    overhead = max(0.0, first[1] - chunk[1])
    return LatencyModel(base, few_step, guided_step, overhead, encode, animate)


def _time_pixels(model: Model, small: float) -> tuple[float, float]:
    """Return the seconds for a million pixels, encoded and animated; `small` is a small video's time."""
    _, moving = _time_chunk(model, 1, _LARGE)
    _, still = _time_chunk(model, 1, _LARGE, "whole")
    large, inner = _LARGE * _LARGE / 1e6, (_LARGE / 4) ** 2 / 1e6
    animate = max(0.0, (moving - still) / (large - inner))
    both = max(animate, (moving - small) / (large - _SMALL * _SMALL / 1e6))
    return both - animate, animate


def _time_chunk(
    model: Model, steps: int, size: int = _SMALL, framing: Framing = "face"
) -> tuple[float, float]:
    """Return the seconds until the first chunk, and the shortest time of three later ones.

    The shortest time, because a brief disturbance would hide the small differences between two
    measurements; a lasting one is learnt from the streams. The square fills the video, or a quarter of the
    width and height of a whole picture.
    """
    side = _LARGE if framing == "face" else _LARGE / 4
    request = GenerationRequest(
        _test_picture(time.perf_counter_ns()), "one two three four",
        crop=FaceCrop(_LARGE / 2, _LARGE / 2, side),
        framing=framing, size=size, steps=steps, seconds=4 * CHUNK_SECONDS,
    )  # fmt: skip
    with model.place() as generator:
        times = [time.perf_counter()]
        state = generator.start(request)
        muxer = StreamMuxer(*state.film_size)
        for chunk in generator.stream(state=state):
            muxer.add(chunk.frames, chunk.audio)
            times.append(time.perf_counter())
            if model.closed.is_set():
                raise ClosedError
        generator.forget(state)
    first, *later = np.diff(times)
    return float(first), min(map(float, later))


def _test_picture(seed: int) -> np.ndarray:
    """Return a picture that is as hard to encode as a photograph: patches of colour and some noise.

    Each time with another seed, because the last pictures are kept ready, and strangers' are new.
    """
    rng = np.random.default_rng(seed)
    shades = np.kron(rng.uniform(40, 215, (16, 16, 3)), np.ones((_LARGE // 16, _LARGE // 16, 1)))
    return (shades + rng.normal(0, 4, (_LARGE, _LARGE, 3))).clip(0, 255).astype(np.uint8)
