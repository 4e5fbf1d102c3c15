"""How fast this machine is: measured at start, corrected by every stream."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass

import numpy as np

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.media import StreamMuxer
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import FEW_MODE_MAX_STEPS, GenerationRequest

from .model import ClosedError, Model


@dataclass(frozen=True)
class Pace:
    """Seconds a chunk takes on this machine: `base` plus so much for each denoising step."""

    base: float = 0.0
    few_step: float = 0.0
    guided_step: float = 0.0
    overhead: float = 0.0
    """Seconds before the first chunk: reading the references."""

    @property
    def known(self) -> bool:
        """Whether it has been measured."""
        return self.base > 0

    def chunk_seconds(self, steps: int, guidance_scale: float | None = None) -> float:
        """Return the expected seconds for one chunk (0.64 s of film)."""
        step = self.guided_step if Sampler.of(steps, guidance_scale).guided else self.few_step
        return self.base + steps * step

    def after(self, request: GenerationRequest, seconds: float) -> Pace:
        """Return the pace after chunks of `request` took `seconds` each: half way there.

        Where nothing was measured before, the rest of a chunk is taken for as much as one step.
        """
        if not self.known:
            evaluations = Sampler.of(request.steps, request.guidance_scale).nfe
            step = seconds / (1 + evaluations)
            return Pace(step, step, 2 * step, step)
        ratio = seconds / self.chunk_seconds(request.steps, request.guidance_scale)
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
    base = max(1e-3, chunk[0] - few_step)
    guided_step = max(few_step, (chunk[2] - base) / multi)
    return Pace(base, few_step, guided_step, overhead=max(0.0, first[1] - chunk[1]))


def _time_chunk(model: Model, steps: int) -> tuple[float, float]:
    """Return the seconds until the first chunk, and those of a later one."""
    picture = np.full((128, 128, 3), 128, np.uint8)
    request = GenerationRequest(
        picture, "one two three four", steps=steps, seconds=4 * CHUNK_SECONDS
    )
    size = model.generator.video_size
    muxer = StreamMuxer(size, size)
    with model.alone() as generator:
        marks = [time.perf_counter()]
        for chunk in generator.stream(request):
            muxer.add(chunk.frames, chunk.audio)
            marks.append(time.perf_counter())
            if model.closed.is_set():
                raise ClosedError
    first, *later = np.diff(marks)
    return float(first), float(np.median(later))
