"""How fast this machine is: measured at start, corrected by every stream."""

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
"""Sides of the films that are measured."""


@dataclass(frozen=True)
class FilmSize:
    """Pixels of a film, and how many millions of them lie in the square that moves."""

    width: int
    height: int
    moved: float

    @property
    def megapixels(self) -> float:
        """Of one picture."""
        return self.width * self.height / 1e6


def film_of(request: GenerationRequest) -> FilmSize:
    """Return the size of a request's film; a face that is still to be found is taken for a large one."""
    height, width = request.image.shape[:2]
    crop = request.crop or FaceCrop(width / 2, height / 2, min(width, height))
    film = film_size(request.image.shape, crop, request.framing, request.size)
    if request.framing == "face":
        return FilmSize(*film, moved=film[0] * film[1] / 1e6)
    across = (
        max(0.0, min(middle + crop.side / 2, length) - max(middle - crop.side / 2, 0)) / length
        for middle, length in ((crop.x, width), (crop.y, height))
    )
    share = next(across) * next(across)
    return FilmSize(*film, moved=share * film[0] * film[1] / 1e6)


@dataclass(frozen=True)
class Pace:
    """Seconds a chunk takes on this machine.

    `base` plus so much for each denoising step, for each million pixels of the film (`film`: they are
    encoded), and for each million of those in the square (`moved`: they are fetched and painted).
    """

    base: float = 0.0
    few_step: float = 0.0
    guided_step: float = 0.0
    overhead: float = 0.0
    """Seconds before the first chunk: reading the references."""
    film: float = 0.0
    moved: float = 0.0

    @property
    def known(self) -> bool:
        """Whether it has been measured."""
        return self.base > 0

    def chunk_seconds(self, request: GenerationRequest) -> float:
        """Return the expected seconds for one chunk (0.64 s of film)."""
        guided = Sampler.of(request.steps, request.guidance_scale).guided
        steps = request.steps * (self.guided_step if guided else self.few_step)
        size = film_of(request)
        return self.base + steps + size.megapixels * self.film + size.moved * self.moved

    def after(self, request: GenerationRequest, seconds: float) -> Pace:
        """Return the pace after chunks of `request` took `seconds` each: half way there.

        Where nothing was measured before, the rest of a chunk is taken for as much as one step.
        """
        if not self.known:
            evaluations = Sampler.of(request.steps, request.guidance_scale).nfe
            step = seconds / (1 + evaluations)
            return Pace(step, step, 2 * step, step)
        ratio = seconds / self.chunk_seconds(request)
        factor = min(4.0, max(0.25, ratio)) ** 0.5
        return Pace(*(value * factor for value in astuple(self)))


def measure(model: Model) -> Pace:
    """Time a few chunks, muxing included, and return this machine's pace.

    Raises ClosedError when the model is closed meanwhile.
    """
    one, few, multi = 1, 4, FEW_MODE_MAX_STEPS + 1
    _time_chunk(model, one)  # the first run also pays for memory and caches
    first, chunk = zip(*(_time_chunk(model, n) for n in (one, few, multi)), strict=True)
    few_step = max(1e-4, (chunk[1] - chunk[0]) / (few - one))
    film, moved = _pixels(model, chunk[0])
    small = _SMALL * _SMALL / 1e6
    base = max(1e-3, chunk[0] - few_step - small * (film + moved))
    guided_step = max(few_step, (chunk[2] - chunk[0] + few_step) / multi)
    return Pace(base, few_step, guided_step, max(0.0, first[1] - chunk[1]), film, moved)


def _pixels(model: Model, small: float) -> tuple[float, float]:
    """Seconds for a million pixels of the film and of the square, as a small square takes `small`."""
    _, moving = _time_chunk(model, 1, _LARGE)
    _, still = _time_chunk(model, 1, _LARGE, "whole")
    large, inner = _LARGE * _LARGE / 1e6, (_LARGE / 4) ** 2 / 1e6
    moved = max(0.0, (moving - still) / (large - inner))
    both = max(moved, (moving - small) / (large - _SMALL * _SMALL / 1e6))
    return both - moved, moved


def _time_chunk(
    model: Model, steps: int, size: int = _SMALL, framing: Framing = "face"
) -> tuple[float, float]:
    """Return the seconds until the first chunk, and those of a later one, the quickest of three.

    What disturbs the machine for a moment would hide the small differences between two of these; what
    disturbs it always is learnt from the streams. The square fills the film, or a quarter of the width and
    height of a whole picture.
    """
    side = _LARGE if framing == "face" else _LARGE / 4
    request = GenerationRequest(
        _picture(), "one two three four", crop=FaceCrop(_LARGE / 2, _LARGE / 2, side),
        framing=framing, size=size, steps=steps, seconds=4 * CHUNK_SECONDS,
    )  # fmt: skip
    with model.alone() as generator:
        marks = [time.perf_counter()]
        state = generator.start(request)
        muxer = StreamMuxer(*state.film_size)
        for chunk in generator.stream(state=state):
            muxer.add(chunk.frames, chunk.audio)
            marks.append(time.perf_counter())
            if model.closed.is_set():
                raise ClosedError
    first, *later = np.diff(marks)
    return float(first), min(map(float, later))


def _picture() -> np.ndarray:
    """Pixels with as much to encode as a photograph has: patches of colour and a little noise."""
    rng = np.random.default_rng(0)
    shades = np.kron(rng.uniform(40, 215, (16, 16, 3)), np.ones((_LARGE // 16, _LARGE // 16, 1)))
    return (shades + rng.normal(0, 4, (_LARGE, _LARGE, 3))).clip(0, 255).astype(np.uint8)
