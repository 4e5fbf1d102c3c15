"""Generate one chunk: Few and Multi mode, guidance. Training's rollout calls the same function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .chunks import repeat_static
from .flow import euler_step, guide, sigma_schedule
from .models.joint_model import Conditions, History, JointModel, StreamCache
from .models.kv_cache import LayerKeyValues
from .types import FEW_MODE_MAX_STEPS, AVLatents, Mode

DEFAULT_GUIDANCE_SCALE = 2.0


@dataclass(frozen=True)
class Sampler:
    """How to denoise: number of steps, mode, and Multi mode's guidance scale (1 = none).

    With guidance every tensor has the conditional rows first and the unconditional ones after.
    """

    steps: int
    mode: Mode
    guidance_scale: float = 1.0

    @staticmethod
    def of(steps: int, guidance_scale: float | None = None) -> Sampler:
        """Few mode up to 8 steps (guidance is folded into the weights), Multi mode above."""
        if steps <= FEW_MODE_MAX_STEPS:
            return Sampler(steps, "few")
        scale = DEFAULT_GUIDANCE_SCALE if guidance_scale is None else guidance_scale
        return Sampler(steps, "multi", scale)

    @property
    def guided(self) -> bool:
        """Whether each step evaluates the network twice."""
        return self.mode == "multi" and self.guidance_scale != 1.0

    @property
    def nfe(self) -> int:
        """Network evaluations of one chunk; a guided step is two."""
        return self.steps * (2 if self.guided else 1)


def sample_chunk(
    model: JointModel,
    noise: dict[str, Tensor],
    conditions: Conditions,
    history: History,
    sampler: Sampler,
    fixed: dict[str, Tensor] | None = None,
    watch: Callable[[int, dict[str, Tensor]], None] | None = None,
) -> AVLatents:
    """Denoise `noise` (branch name to [B, K, N, D]) to clean latents, `fixed` branches held clean.

    With guidance, conditions and history have 2 B rows and the result has B. `watch` is shown the
    number of each step and what it starts from.
    """
    fixed = fixed or {}
    x = dict(noise)
    levels = sigma_schedule(sampler.steps, model.config.sigma_shift)
    for step, (sigma, following) in enumerate(itertools.pairwise(levels)):
        if watch is not None:
            watch(step, x)
        delta = sigma - following
        velocity = predict_velocity(model, x, fixed, conditions, history, sampler, sigma, delta)
        x = {name: euler_step(tokens, velocity[name], delta) for name, tokens in x.items()}
    return AVLatents.of({**fixed, **x})


def predict_velocity(
    model: JointModel,
    x: dict[str, Tensor],
    fixed: dict[str, Tensor],
    conditions: Conditions,
    history: History,
    sampler: Sampler,
    sigma: float,
    delta: float,
) -> dict[str, Tensor]:
    """One network evaluation (two rows per sample when guided) of the branches in `x`."""
    latents = _with_guidance_rows(AVLatents.of({**fixed, **x}), sampler)
    interval = delta if sampler.mode == "few" else 0.0

    def levels(value: float) -> dict[str, Tensor]:
        return {
            name: tokens.new_full(latents.shape, value if name in x else 0.0)
            for name, tokens in latents.modalities.items()
        }

    out = model(latents, levels(sigma), levels(interval), conditions, history).modalities
    if not sampler.guided:
        return {name: out[name].float() for name in x}
    halves = {name: out[name].float().chunk(2) for name in x}
    return {
        name: guide(cond, uncond, sampler.guidance_scale) for name, (cond, uncond) in halves.items()
    }


def write_cache(
    model: JointModel,
    clean: AVLatents,
    conditions: Conditions,
    history: StreamCache,
    sampler: Sampler,
) -> list[LayerKeyValues]:
    """The clean pass: append the finished chunk to the cache (both rows of guidance)."""
    latents = _with_guidance_rows(clean, sampler)
    stored = model.prefill(latents, conditions, history)
    history.append(stored, latents)
    return stored


def prefill_static(
    model: JointModel,
    picture: Tensor,
    silence: Tensor,
    branches: Sequence[str],
    conditions: Conditions,
    history: StreamCache,
    sampler: Sampler,
) -> None:
    """Begin a stream: what came before it is the reference picture, static, in silence.

    picture [B, H * W, Dv] and silence [B, 1, N, Da], either ignored when its branch is absent. The
    character so starts as it looks in its picture, instead of in a pose of which nothing is known.
    """
    prefix: dict[str, Tensor] = {}
    if "video" in branches:
        prefix["video"] = repeat_static(picture, model.config.video.grid)[:, None]
    if "audio" in branches:
        prefix["audio"] = silence
    write_cache(model, AVLatents.of(prefix), conditions, history, sampler)


def _with_guidance_rows(latents: AVLatents, sampler: Sampler) -> AVLatents:
    return latents.map(lambda x: torch.cat([x, x])) if sampler.guided else latents
