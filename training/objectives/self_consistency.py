"""Self-consistency: a long step must equal two short ones (ShortCut as interval splitting)."""

from __future__ import annotations

import torch

from mutual_forcing.flow import add_noise
from mutual_forcing.models.transformer import AVTransformer

from .intervals import draw_intervals
from .losses import (
    Context,
    Parts,
    Teacher,
    draw_noise,
    mean_square,
    split_target,
    spread,
    velocity,
)


def self_consistency(
    model: AVTransformer,
    context: Context,
    teacher: Teacher,
    clean: Parts,
    weights: Parts,
    generator: torch.Generator,
) -> Parts:
    """Loss per branch of `model` on noised `clean` chunks; `teacher`'s target carries no gradient."""
    shape = tuple(next(iter(clean.values())).shape[:2])
    start, end = draw_intervals(shape, generator)
    noise = draw_noise(clean, generator)
    x = {n: add_noise(clean[n], noise[n], spread(start)) for n in clean}
    with torch.no_grad():
        target = split_target(teacher, x, start, (start + end) / 2, end)
    levels, intervals = dict.fromkeys(clean, start), dict.fromkeys(clean, start - end)
    return mean_square(velocity(model, x, levels, intervals, context), target, weights)
