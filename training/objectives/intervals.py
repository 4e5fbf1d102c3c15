"""Which intervals of sigma self-consistency trains: mostly those that are served."""

from __future__ import annotations

import torch
from torch import Tensor

FINEST = 1 / 16
"""Intervals this short come from Multi mode."""


def draw_intervals(shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Starts s and ends r < s, [B, K] each (method.md, Self-consistency).

    Half are steps of the 4- and 8-step schedules, a quarter go all the way to 0, a quarter are dyadic.
    """
    device = generator.device
    kind = torch.rand(shape, generator=generator, device=device)
    pick = torch.rand(shape, generator=generator, device=device)
    length = torch.where(torch.rand(shape, generator=generator, device=device) < 0.5, 0.25, 0.125)
    served = _grid(pick, length)
    exponent = torch.randint(0, 4, shape, generator=generator, device=device)
    dyadic_length = 2.0 ** -exponent.float()
    dyadic = _grid(pick, dyadic_length)
    to_zero = torch.clamp((pick * 16).ceil(), 1) / 16
    start = torch.where(kind < 0.5, served, torch.where(kind < 0.75, to_zero, dyadic))
    end = torch.where(kind < 0.5, served - length, dyadic - dyadic_length)
    end = torch.where((kind >= 0.5) & (kind < 0.75), torch.zeros_like(end), end)
    return start, end.clamp_min(0)


def _grid(pick: Tensor, length: Tensor) -> Tensor:
    """A random multiple of `length` within (0, 1]."""
    return (torch.floor(pick / length) + 1).clamp_max(1 / length) * length
