"""The two losses of the method, as functions of a model and what it is conditioned on.

Weights and masks of audio that go into a loss are those of the whole batch; all else is of the rows that are
computed here (draws.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mutual_forcing.flow import add_noise, euler_step, guide, velocity_target
from mutual_forcing.models.joint_model import Conditions, JointModel
from mutual_forcing.models.kv_cache import ParallelHistory
from mutual_forcing.sampling import DEFAULT_GUIDANCE_SCALE
from mutual_forcing.types import AVLatents

from ..data.latents import LatentBatch
from .draws import Draws
from .intervals import FINEST

Modalities = dict[str, Tensor]
"""Branch name to a tensor [B, K, N, ...] of its tokens, or to a scalar loss."""
Levels = dict[str, Tensor]
Teacher = Callable[[Modalities, Tensor, Tensor, Tensor | None], Modalities]
"""Mean velocity of x at levels sigma over intervals delta, both [B, K]; where audio_mask (bool [B], None =
nowhere) the audio is clean and stays.
"""
Score = Callable[[Modalities, Tensor], Modalities]
"""Instantaneous velocity of noisy latents at levels [B, K]."""


@dataclass(frozen=True)
class Guidance:
    """Guidance scale by branch (1 = none): what sound needs is too much for lips."""

    video: float = DEFAULT_GUIDANCE_SCALE
    audio: float = DEFAULT_GUIDANCE_SCALE

    def __getitem__(self, branch: str) -> float:
        return {"video": self.video, "audio": self.audio}[branch]


DEFAULT_GUIDANCE = Guidance()
NO_GUIDANCE = Guidance(1.0, 1.0)


@dataclass(frozen=True)
class Context:
    """Conditions and the clean past of every chunk of one batch."""

    conditions: Conditions
    history: ParallelHistory

    def frozen(self) -> Context:
        """The same past without its gradient; that of the conditions stays."""
        assert self.history.clean is not None
        stored = [
            {name: (key.detach(), value.detach()) for name, (key, value) in layer.items()}
            for layer in self.history.clean
        ]
        history = ParallelHistory(self.history.window, stored, self.history.latents)
        return Context(self.conditions, history)


def prefill_context(model: JointModel, clean: AVLatents, conditions: Conditions) -> Context:
    """The clean pass over a whole clip: what each of its chunks may look back on."""
    window = model.config.window
    stored = model.prefill(clean, conditions, ParallelHistory(window))
    return Context(conditions, ParallelHistory(window, stored, clean))


def spread(level: Tensor) -> Tensor:
    """[B, K] to [B, K, 1, 1]."""
    return level[:, :, None, None]


def draw_noise(parts: Modalities, draws: Draws) -> Modalities:
    """Standard normal noise like every part."""
    return {name: draws.normal(*p.shape[1:]) for name, p in parts.items()}


def draw_sigma(chunks: int, draws: Draws) -> Tensor:
    """Logit-normal(0, 1) noise levels [B, chunks]."""
    return torch.sigmoid(draws.normal(chunks))


def levels_of(parts: Modalities, level: Tensor, audio_mask: Tensor | None = None) -> Levels:
    """The same level [B, K] for every branch, but 0 for audio that is `audio_mask` (bool [B])."""
    levels = dict.fromkeys(parts, level)
    if audio_mask is not None and "audio" in parts:
        levels["audio"] = torch.where(audio_mask[:, None], 0.0, level)
    return levels


def mask_audio(parts: Modalities, audio_mask: Tensor | None) -> Modalities:
    """Weights, or velocities, that are 0 for audio that is given."""
    if audio_mask is None or "audio" not in parts:
        return parts
    audio = parts["audio"]
    return {**parts, "audio": audio * (~audio_mask).view(-1, *[1] * (audio.ndim - 1))}


def velocity(
    model: JointModel, x: Modalities, sigma: Levels, delta: Levels, context: Context
) -> Modalities:
    """The model's mean velocity in fp32."""
    out = model(AVLatents.of(x), sigma, delta, context.conditions, context.history)
    return {name: part.float() for name, part in out.modalities.items()}


def mean_square(
    predicted: Modalities, target: Modalities, weights: Modalities, draws: Draws
) -> Modalities:
    """Mean squared error per branch, every token with its weight [B, K, N]: what the rows here add to it."""
    return {
        name: draws.mean((part - target[name]).square().mean(3), weights[name])
        for name, part in predicted.items()
    }


def flow_matching(
    model: JointModel,
    clean: Modalities,
    noise: Modalities,
    sigma: Levels,
    context: Context,
    weights: Modalities,
    draws: Draws,
) -> Modalities:
    """Instantaneous velocity (delta = 0) against noise - clean, per branch."""
    noisy = {n: add_noise(clean[n], noise[n], spread(sigma[n])) for n in clean}
    delta = {n: torch.zeros_like(level) for n, level in sigma.items()}
    target = {n: velocity_target(clean[n], noise[n]) for n in clean}
    return mean_square(velocity(model, noisy, sigma, delta, context), target, weights, draws)


def split_target(
    teacher: Teacher,
    x: Modalities,
    s: Tensor,
    m: Tensor,
    r: Tensor,
    audio_mask: Tensor | None = None,
) -> Modalities:
    """Mean velocity over [r, s] composed of two shorter ones (docs/method.md, Self-consistency).

    s > m > r are levels [B, K]. audio_mask: see Teacher.
    """
    first = teacher(x, s, s - m, audio_mask)
    middle = {name: euler_step(x[name], first[name], spread(s - m)) for name in x}
    second = teacher(middle, m, m - r, audio_mask)
    return {n: (spread(s - m) * first[n] + spread(m - r) * second[n]) / spread(s - r) for n in x}


def guided_teacher(
    model: JointModel, context: Context, unconditional: Context, guidance: Guidance
) -> Teacher:
    """Mean velocity of Few mode; for the finest intervals that of the guided Multi mode.

    This is how guidance is folded into Few mode.
    """

    def teach(
        x: Modalities, sigma: Tensor, delta: Tensor, audio_mask: Tensor | None = None
    ) -> Modalities:
        fine = delta <= FINEST + 1e-6
        levels = levels_of(x, sigma, audio_mask)
        interval = levels_of(x, torch.where(fine, torch.zeros_like(delta), delta), audio_mask)
        conditional = velocity(model, x, levels, interval, context)
        # Asked even where no interval here is fine: other processes may have one, and all of them have to
        # call a network together that each holds a part of.
        if all(guidance[name] == 1 for name in x):
            return mask_audio(conditional, audio_mask)
        null = velocity(model, x, levels, dict.fromkeys(x, torch.zeros_like(delta)), unconditional)
        guided = {
            name: torch.where(spread(fine), guide(part, null[name], guidance[name]), part)
            for name, part in conditional.items()
        }
        return mask_audio(guided, audio_mask)

    return teach


@torch.no_grad()
def causal_teacher(
    model: JointModel, batch: LatentBatch, past: AVLatents, guidance: Guidance
) -> Teacher:
    """The guided teacher of chunks that look back on `past`, whose contexts carry no gradient."""
    return guided_teacher(model, *with_and_without_text(model, batch, past), guidance)


def with_and_without_text(
    model: JointModel, batch: LatentBatch, past: AVLatents
) -> tuple[Context, Context]:
    """Chunks that look back on `past`, conditioned for guidance: with their text, and without any."""
    branches = tuple(past.modalities)
    said, unsaid = (
        prefill_context(model, past, asked.conditions(model, branches))
        for asked in (batch, batch.without_text())
    )
    return said, unsaid


def multi_mode(teacher: Teacher) -> Score:
    """The teacher's instantaneous velocity."""
    return lambda x, level: teacher(x, level, torch.zeros_like(level), None)


def log_losses(values: Modalities, name: str, parts: Modalities) -> Tensor:
    """Put every branch's loss into `values` as NAME_BRANCH; return their mean."""
    values |= {f"{name}_{branch}": value for branch, value in parts.items()}
    return sum(parts.values()) / len(parts)
