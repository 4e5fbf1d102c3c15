"""Where Multi mode's guidance goes in the last stage: into Few mode, which is wanted, and into Multi mode
itself, which is not. Two monitors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutual_forcing.flow import add_noise, euler_step, sigma_schedule
from mutual_forcing.models.joint_model import JointModel

from ..data.latents import LatentBatch
from .draws import Draws
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
    model: JointModel,
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
    draws = Draws(generator, shape[0])
    along, whole = dict.fromkeys(branches, 0.0), dict.fromkeys(branches, 0.0)
    for sigma in sigma_schedule(STEPS, model.config.sigma_shift)[:-1]:
        level = torch.full(shape, sigma, device=generator.device)
        noise = draw_noise(clean.modalities, draws)
        x = {n: add_noise(part, noise[n], spread(level)) for n, part in clean.modalities.items()}
        unguided = _walk(plain, x, level, FINEST)
        ours, aim = (_walk(guided, x, level, delta) for delta in (1 / STEPS, FINEST))
        for name, origin in unguided.items():
            way = (aim[name] - origin) * weights[name][..., None]
            along[name] += float(((ours[name] - origin) * way).sum())
            whole[name] += float(way.square().sum())
    return {name: along[name] / max(whole[name], 1e-12) for name in branches}


class GuidanceLeak:
    """How far Multi mode without guidance has moved, since the stage began, to where guidance led it then.

    Few mode and Multi mode share their weights, so that what teaches the one moves the other; a guided
    teacher is then fed its own guidance. 0 is none, 1 is Multi mode that is guided without being asked.
    """

    def __init__(
        self,
        model: JointModel,
        batch: LatentBatch,
        branches: tuple[str, ...],
        guidance: Guidance,
    ) -> None:
        """Remember what the model answers now on a batch of real clips, at STEPS noise levels."""
        self.branches = branches
        self.start = self._velocities(model, batch, NO_GUIDANCE)
        guided = self._velocities(model, batch, guidance)
        self.way = {n: guided[n] - self.start[n] for n in branches}

    @torch.no_grad()
    def __call__(self, model: JointModel, batch: LatentBatch) -> dict[str, float]:
        """The share by branch, of the same batch; 0 where there is no guidance."""
        now = self._velocities(model, batch, NO_GUIDANCE)
        return {
            name: float(((now[name] - self.start[name]) * way).sum())
            / max(float(way.square().sum()), 1e-12)
            for name, way in self.way.items()
        }

    @torch.no_grad()
    def _velocities(self, model: JointModel, batch: LatentBatch, guidance: Guidance) -> Modalities:
        """Instantaneous velocities [STEPS, B, K, N, C] of each branch, with the same noise every time; 0
        where tokens do not count.
        """
        clean, weights = batch.clean(self.branches), batch.weights(self.branches)
        teacher = guided_teacher(model, *with_and_without_text(model, batch, clean), guidance)
        generator = torch.Generator(batch.picture.device).manual_seed(0)
        draws = Draws(generator, clean.shape[0])
        found: dict[str, list[Tensor]] = {name: [] for name in self.branches}
        for sigma in sigma_schedule(STEPS, model.config.sigma_shift)[:-1]:
            level = torch.full(clean.shape, sigma, device=generator.device)
            noise = draw_noise(clean.modalities, draws)
            x = {n: add_noise(p, noise[n], spread(level)) for n, p in clean.modalities.items()}
            for name, out in teacher(x, level, torch.zeros_like(level), None).items():
                found[name].append(out * weights[name][..., None])
        return {name: torch.stack(parts) for name, parts in found.items()}


def _walk(teacher: Teacher, x: Modalities, level: Tensor, delta: float) -> Modalities:
    """Where steps of `delta` lead x [B, K, N, C] of each branch, from `level` [B, K] to 1 / STEPS lower."""
    for step in range(round(1 / STEPS / delta)):
        sigma = level - step * delta
        velocity = teacher(x, sigma, torch.full_like(sigma, delta), None)
        x = {name: euler_step(part, velocity[name], delta) for name, part in x.items()}
    return x
