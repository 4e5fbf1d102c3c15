"""Pretraining of one branch and joint training: flow matching with real history.

Optionally self-consistency on part of the batch (docs/method.md: in the last 60 % of joint training).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.flow import add_noise
from mutual_forcing.types import AVLatents

from ..data.latents import LatentBatch, LatentDataset
from ..stage_config import WHOLE, Recipe, Share, Sources, Turns
from .base import ClipConfig, TransformerObjective
from .draws import Draws
from .losses import (
    DEFAULT_GUIDANCE,
    Guidance,
    causal_teacher,
    draw_noise,
    log_losses,
    prefill_context,
    spread,
)
from .self_consistency import self_consistency


@dataclass(frozen=True)
class ConsistencyConfig:
    """Self-consistency from step `start` on, on a `share` of the rows, with `guidance` folded in, as a part
    of the loss that counts `weight`.
    """

    start: int
    share: float = 0.25
    guidance: Guidance = DEFAULT_GUIDANCE
    weight: float = 2 / 3


@dataclass(frozen=True)
class TeacherForcingConfig:
    """Flow matching on real chunks after real chunks.

    audio_driven: share of the batch whose audio is given clean. freeze_text: keep the text encoder, so
    that a second branch learns to read what the first one taught it. history_noise: noise level up to
    which the video of the past is noised, so that its faults are not trusted when it is the model's own.
    """

    kind: ClassVar[str] = "teacher_forcing"
    clips: ClipConfig = field(default_factory=ClipConfig)
    audio_driven: float = 0.0
    freeze_text: bool = False
    history_noise: float = 0.0
    consistency: ConsistencyConfig | None = None

    def build(self, sources: Sources, recipe: Recipe) -> TeacherForcingObjective:
        """See ObjectiveConfig."""
        system = sources.system(recipe.init[-1] if recipe.init else None)
        data = sources.latents(system, self.clips.branches)
        return TeacherForcingObjective(system, data, self, recipe.batch, recipe.seed, recipe.stream)


class TeacherForcingObjective(TransformerObjective):
    """See the configuration."""

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        config: TeacherForcingConfig,
        batch: int,
        seed: int,
        stream: str = "",
    ) -> None:
        super().__init__(system, data, config.clips, batch, seed, stream)
        self.config = config
        for name in set(self.model.branches) - set(self.branches):
            self.model.freeze_branch(name)
        if config.freeze_text:
            self.model.freeze_text()

    def step(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
        share: Share = WHOLE,
    ) -> Turns:
        """Mean over the branches, plus self-consistency when it is on."""
        yield "model", self._losses(*self.share(batch, generator, share), ema, step)

    def _losses(
        self,
        draws: Draws,
        batch: LatentBatch,
        weights: dict[str, Tensor],
        ema: nn.Module,
        step: int,
    ) -> dict[str, Tensor]:
        consistency = self.config.consistency
        audio_mask = self._draw_audio_mask(draws)
        if audio_mask is not None:
            batch = self.drop_transcript(batch, audio_mask, draws)
        clean = batch.clean(self.branches)
        past = self._past(clean, draws)
        context = prefill_context(self.model, past, batch.conditions(self.model, self.branches))
        values: dict[str, Tensor] = {}
        parts = self.match(self.model, clean, context, draws, weights, audio_mask)
        loss = log_losses(values, "flow", parts)
        if consistency and step >= consistency.start:
            rows = max(1, int(self.size * consistency.share))
            weights = {name: weight[:rows] for name, weight in weights.items()}
            held = None if audio_mask is None else audio_mask[:rows]
            parts = self._consistency(
                draws.head(rows), batch, weights, ema, held, consistency.guidance
            )
            loss = loss + consistency.weight * log_losses(values, "consistency", parts)
        return {**values, "loss": loss}

    def _consistency(
        self,
        draws: Draws,
        batch: LatentBatch,
        weights: dict[str, Tensor],
        ema: nn.Module,
        audio_mask: Tensor | None,
        guidance: Guidance,
    ) -> dict[str, Tensor]:
        batch = batch.head(len(draws))
        clean = batch.clean(self.branches)
        context = prefill_context(self.model, clean, batch.conditions(self.model, self.branches))
        teacher = causal_teacher(ema, batch, clean, guidance)
        return self_consistency(self.model, context, teacher, clean, weights, draws, audio_mask)

    def _past(self, clean: AVLatents, draws: Draws) -> AVLatents:
        if not self.config.history_noise or clean.video is None:
            return clean
        draw = draws.uniform(1)
        noise = draw_noise({"video": clean.video}, draws)["video"]
        level = spread(self.config.history_noise * draw)
        return replace(clean, video=add_noise(clean.video, noise, level))

    def _draw_audio_mask(self, draws: Draws) -> Tensor | None:
        if not self.config.audio_driven:
            return None
        return draws.uniform_of_all() < self.config.audio_driven
