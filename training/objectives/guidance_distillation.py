"""How much of Multi mode's guidance is in Few mode: a monitor of the last stage."""

from __future__ import annotations

import torch
from torch import Tensor

from mutual_forcing.flow import add_noise, euler_step, sigma_schedule
from mutual_forcing.models.transformer import AVTransformer

from ..data.latents import LatentBatch
from .intervals import FINEST
from .losses import (
    NO_GUIDANCE,
    Guidance,
    Modalities,
    Teacher,
    draw_noise,
    guided_teacher,
    spread,
    with_and_without_text,
)

STEPS = 4
"""Of Few mode's schedule from sigma 1 to 0, every one of which is looked at."""


@torch.no_grad()
def distilled_share(
    model: AVTransformer,
    batch: LatentBatch,
    branches: tuple[str, ...],
    guidance: Guidance,
    generator: torch.Generator,
) -> dict[str, float]:
    """Share of `guidance` that Few mode's steps hold, per branch: 0 nothing of it, 1 all, above 1 more.

    From real chunks noised, after a real past: how far Few mode's step ends from where Multi mode's
    unguided path does, along the way to where its guided path ends. 0 also where there is no guidance.
    """
    clean = batch.clean(branches)
    said, unsaid = with_and_without_text(model, batch, clean)
    guided = guided_teacher(model, said, unsaid, guidance)
    plain = guided_teacher(model, said, said, NO_GUIDANCE)
    weights, shape = batch.weights(branches), clean.shape
    along, whole = dict.fromkeys(branches, 0.0), dict.fromkeys(branches, 0.0)
    for sigma in sigma_schedule(STEPS)[:-1]:
        level = torch.full(shape, sigma, device=generator.device)
        noise = draw_noise(clean.modalities, generator)
        x = {n: add_noise(part, noise[n], spread(level)) for n, part in clean.modalities.items()}
        unguided = _walk(plain, x, level, FINEST)
        ours, aim = (_walk(guided, x, level, delta) for delta in (1 / STEPS, FINEST))
        for name, origin in unguided.items():
            way = (aim[name] - origin) * weights[name][..., None]
            along[name] += float(((ours[name] - origin) * way).sum())
            whole[name] += float(way.square().sum())
    return {name: along[name] / max(whole[name], 1e-12) for name in branches}


def _walk(teacher: Teacher, x: Modalities, level: Tensor, delta: float) -> Modalities:
    """Where steps of `delta` lead x [B, K, N, C] of each branch, from `level` [B, K] to 1 / STEPS lower."""
    for step in range(round(1 / STEPS / delta)):
        sigma = level - step * delta
        velocity = teacher(x, sigma, torch.full_like(sigma, delta), None)
        x = {name: euler_step(part, velocity[name], delta) for name, part in x.items()}
    return x
