"""Which intervals of sigma self-consistency trains: those that are served, and all between."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mutual_forcing.flow import shift_sigma
from mutual_forcing.types import FEW_MODE_MAX_STEPS

from .draws import Draws

FINEST = 1 / 16
"""Intervals this short come from Multi mode."""
SERVED, TO_ZERO = 0.5, 0.2
"""Shares of the intervals that are a step of Few mode, with 1 to 8 steps, and that go all the way to 0."""


def draw_intervals(chunks: int, draws: Draws, shift: float = 1.0) -> tuple[Tensor, Tensor]:
    """Starts s and ends r < s, [B, chunks] each (docs/method.md, Self-consistency).

    SERVED of them are steps of the 1- to 8-step schedules with this shift (flow.sigma_schedule), TO_ZERO go
    to 0 from a sixteenth or more, as the clean estimates of DMD do. The others have any length from FINEST to
    1, shorter ones more often, anywhere: the target of an interval asks for its halves, so whatever is halved
    has trained neighbours.
    """

    def draw() -> Tensor:
        return draws.uniform(chunks)

    steps = draws.integers(1, FEW_MODE_MAX_STEPS, chunks)
    first = torch.floor(draw() * steps).minimum(steps - 1.0)
    length = torch.exp(math.log(FINEST) * draw())
    start = length + (1 - length) * draw()
    end = start - length
    kind = draw()
    served, to_zero = kind < SERVED, kind > 1 - TO_ZERO
    start = torch.where(served, shift_sigma(1 - first / steps, shift), start)
    end = torch.where(served, shift_sigma(1 - (first + 1) / steps, shift), end)
    start = torch.where(to_zero, (draw() * 16).ceil().clamp_min(1) / 16, start)
    end = torch.where(to_zero, torch.zeros_like(end), end)
    return start, end.clamp_min(0)
