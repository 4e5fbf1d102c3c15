"""Self-consistency: a long step must equal two short ones (ShortCut as interval splitting)."""

from __future__ import annotations

import torch
from torch import Tensor

from mutual_forcing.flow import add_noise
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.types import AVLatents

from ..data.latents import LatentBatch
from .intervals import FINEST, draw_intervals
from .losses import (
    Context,
    draw_noise,
    guided_teacher,
    mean_square,
    remember_context,
    split_target,
    spread,
    velocity,
)


def self_consistency(
    model: AVTransformer,
    ema: AVTransformer,
    batch: LatentBatch,
    clean: AVLatents,
    branches: tuple[str, ...],
    guidance_scale: float,
    generator: torch.Generator,
    history: AVLatents | None = None,
) -> dict[str, Tensor]:
    """Loss per branch on the first rows of `clean` (as many as `batch` has).

    history: the clean chunks to look back on, if they differ from `clean`. The target comes from the
    averaged weights and carries no gradient.
    """
    rows = len(batch.has_voice)
    parts = {name: part[:rows] for name, part in clean.parts.items()}
    past = AVLatents.of({n: p[:rows] for n, p in (history or clean).parts.items()})
    shape = tuple(next(iter(parts.values())).shape[:2])
    start, end = draw_intervals(shape, generator)
    middle = (start + end) / 2
    noise = draw_noise(parts, generator)
    x = {n: add_noise(parts[n], noise[n], spread(start)) for n in parts}
    with torch.no_grad():
        teacher = guided_teacher(
            ema,
            _context(ema, past, batch, branches),
            _context(ema, past, batch.without_text(), branches),
            guidance_scale,
            FINEST,
        )
        target = split_target(teacher, x, start, middle, end)
    context = _context(model, past, batch, branches)
    levels = dict.fromkeys(parts, start)
    intervals = dict.fromkeys(parts, start - end)
    weights = batch.weights(branches)
    return mean_square(velocity(model, x, levels, intervals, context), target, weights)


def _context(
    model: AVTransformer, past: AVLatents, batch: LatentBatch, branches: tuple[str, ...]
) -> Context:
    return remember_context(model, past, batch.conditions(model, branches))
