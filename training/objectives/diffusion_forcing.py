"""Diffusion Forcing (arXiv 2407.01392), a baseline: every chunk has its own noise level, the past too.

The model sees noisy history in training, so that a history of its own making is less of a surprise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mutual_forcing.models.kv_cache import ParallelHistory

from ..data.latents import LatentBatch
from .base import TransformerObjective
from .losses import Context, draw_noise, draw_sigma, flow_matching, log_losses


class DiffusionForcingObjective(TransformerObjective):
    """Flow matching of every chunk after chunks as noisy as they happen to be.

    A quarter of the rows keeps a clean past, as it is when streaming.
    """

    clean_share = 0.25

    def losses(
        self,
        network: str,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
    ) -> dict[str, Tensor]:
        """Mean over the branches of the noisy pass, plus teacher forcing on the other rows."""
        batch = batch.to(self.device())
        rows = max(1, round(len(batch.has_voice) * self.clean_share))
        values: dict[str, Tensor] = {}
        noisy = log_losses(values, "flow", self._noisy_past(batch, generator))
        clean = self.teacher_forcing(self.model, batch.head(rows), generator)
        share = self.clean_share
        loss = (1 - share) * noisy + share * log_losses(values, "clean_past", clean)
        return {**values, "loss": loss}

    def _noisy_past(self, batch: LatentBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One pass: every chunk looks back on the noisy chunks of the same pass."""
        clean = batch.clean(self.branches)
        parts = clean.modalities
        conditions = batch.conditions(self.model, self.branches)
        context = Context(conditions, ParallelHistory(self.model.config.window))
        sigma = dict.fromkeys(parts, draw_sigma(clean.shape, generator))
        weights = batch.weights(self.branches)
        return flow_matching(
            self.model, parts, draw_noise(parts, generator), sigma, context, weights
        )
