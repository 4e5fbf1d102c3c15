"""Distribution matching distillation with an online fake score (DMD; docs/method.md, Losses).

Few mode's clean estimate is noised again; a score of real data and one of Few mode's own output say where
it should move. Normalised per chunk and per modality, so that neither drowns the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutual_forcing.flow import add_noise, velocity_target, velocity_to_clean
from mutual_forcing.models.joint_model import JointModel

from .draws import Draws
from .losses import Context, Modalities, Score, draw_noise, mean_square, spread, velocity
from .rollout import Rollout

LOWEST, HIGHEST = 0.02, 0.98
"""Noise levels at which the scores are compared."""


def few_estimate(model: JointModel, rollout: Rollout, context: Context) -> Modalities:
    """Few mode's clean estimate of every chunk in one step from the rollout's exit, with gradient."""
    first = next(iter(rollout.x.values()))
    level = first.new_full(first.shape[:2], rollout.sigma, dtype=torch.float32)
    levels = dict.fromkeys(rollout.x, level)
    out = velocity(model, rollout.x, levels, levels, context)
    return {n: velocity_to_clean(x, out[n], spread(level)) for n, x in rollout.x.items()}


def draw_level(chunks: int, draws: Draws) -> Tensor:
    """Uniform levels [B, chunks] at which scores are compared and the fake score learns."""
    return LOWEST + (HIGHEST - LOWEST) * draws.uniform(chunks)


def distribution_matching(
    estimate: Modalities,
    real: Score,
    fake: Score,
    level: Tensor,
    weights: Modalities,
    draws: Draws,
) -> Modalities:
    """Loss per branch whose gradient moves `estimate` from the fake towards the real distribution."""
    with torch.no_grad():
        noise = draw_noise(estimate, draws)
        noisy = {n: add_noise(part, noise[n], spread(level)) for n, part in estimate.items()}
        ours, theirs = real(noisy, level), fake(noisy, level)
        target = {}
        for name, part in estimate.items():
            clean_real, clean_fake = (
                velocity_to_clean(noisy[name], score[name], spread(level))
                for score in (ours, theirs)
            )
            scale = (part - clean_real).abs().mean((2, 3), keepdim=True).clamp_min(1e-4)
            target[name] = part - (clean_fake - clean_real) / scale
    return {n: value / 2 for n, value in mean_square(estimate, target, weights, draws).items()}


def fake_flow_matching(
    fake: Score, made: Modalities, level: Tensor, weights: Modalities, draws: Draws
) -> Modalities:
    """Flow matching of the fake score on generated chunks, per branch."""
    noise = draw_noise(made, draws)
    noisy = {n: add_noise(part, noise[n], spread(level)) for n, part in made.items()}
    target = {n: velocity_target(part, noise[n]) for n, part in made.items()}
    return mean_square(fake(noisy, level), target, weights, draws)
