"""Pretraining of one branch and joint training: flow matching with real history.

Optionally self-consistency on part of the batch (docs/method.md: in the last 60 % of joint training).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.flow import add_noise
from mutual_forcing.types import AVLatents

from ..data.latents import Dropout, LatentBatch, LatentDataset
from .base import TransformerObjective
from .losses import (
    GUIDANCE,
    Guidance,
    causal_teacher,
    draw_noise,
    log_losses,
    prefill_context,
    spread,
)
from .self_consistency import self_consistency


class TeacherForcingObjective(TransformerObjective):
    """Flow matching on real chunks after real chunks.

    audio_driven: share of the batch whose audio is given clean. freeze_text: keep the text encoder, so
    that a second branch learns to read what the first one taught it. history_noise: noise level up to
    which the video of the past is noised, so that its faults are not trusted when it is the model's own.
    consistency_from: the step from which self-consistency is learned on `consistency_share` of the rows,
    with `guidance` (scale by branch) folded in.
    """

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        batch: int,
        seed: int,
        branches: tuple[str, ...] = ("video", "audio"),
        lengths: tuple[int, ...] = (8,),
        dropout: Dropout | None = None,
        audio_driven: float = 0.0,
        freeze_text: bool = False,
        consistency_from: int = 1_000_000_000,
        consistency_share: float = 0.25,
        guidance: Guidance = GUIDANCE,
        history_noise: float = 0.0,
        stream: str = "",
    ) -> None:
        super().__init__(system, data, batch, seed, branches, lengths, dropout, stream)
        self.audio_driven = audio_driven
        self.consistency_from, self.consistency_share = consistency_from, consistency_share
        self.guidance, self.history_noise = guidance, history_noise
        for name in set(self.model.branches) - set(self.branches):
            self.model.freeze_branch(name)
        self.model.text_encoder.requires_grad_(not freeze_text)

    def losses(
        self,
        network: str,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
    ) -> dict[str, Tensor]:
        """Mean over the branches, plus 2/3 of self-consistency when it is on."""
        batch = batch.to(self.device())
        audio_mask = self._draw_audio_mask(batch, generator)
        if audio_mask is not None:
            batch = self.drop_transcript(batch, audio_mask, generator)
        clean = batch.clean(self.branches)
        past = self._past(clean, generator)
        context = prefill_context(self.model, past, batch.conditions(self.model, self.branches))
        weights = batch.weights(self.branches)
        values: dict[str, Tensor] = {}
        parts = self.match(self.model, clean, context, generator, weights, audio_mask)
        loss = log_losses(values, "flow", parts)
        if step >= self.consistency_from:
            rows = max(1, int(self.size * self.consistency_share))
            held = None if audio_mask is None else audio_mask[:rows]
            parts = self._consistency(batch.head(rows), ema, generator, held)
            loss = loss + 2 / 3 * log_losses(values, "consistency", parts)
        return {**values, "loss": loss}

    def _consistency(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        audio_mask: Tensor | None,
    ) -> dict[str, Tensor]:
        clean, weights = batch.clean(self.branches), batch.weights(self.branches)
        context = prefill_context(self.model, clean, batch.conditions(self.model, self.branches))
        teacher = causal_teacher(ema, batch, clean, self.guidance)
        return self_consistency(
            self.model, context, teacher, clean.modalities, weights, generator, audio_mask
        )

    def _past(self, clean: AVLatents, generator: torch.Generator) -> AVLatents:
        if not self.history_noise or clean.video is None:
            return clean
        draw = torch.rand(len(clean.video), 1, generator=generator, device=self.device())
        noise = draw_noise({"video": clean.video}, generator)["video"]
        return replace(
            clean, video=add_noise(clean.video, noise, spread(self.history_noise * draw))
        )

    def _draw_audio_mask(self, batch: LatentBatch, generator: torch.Generator) -> Tensor | None:
        if not self.audio_driven:
            return None
        draw = torch.rand(len(batch.has_voice), generator=generator, device=self.device())
        return draw < self.audio_driven
