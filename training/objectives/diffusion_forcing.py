"""Diffusion Forcing (arXiv 2407.01392), a baseline: every chunk has its own noise level, the past too.

The model sees noisy history in training, so that a history of its own making is less of a surprise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.kv_cache import ParallelHistory

from ..data.latents import LatentBatch, LatentDataset
from ..stage_config import WHOLE, Recipe, Share, Sources, Turns
from .base import ClipConfig, TransformerObjective
from .draws import Draws
from .losses import Context, draw_noise, draw_sigma, flow_matching, log_losses


@dataclass(frozen=True)
class DiffusionForcingConfig:
    """clean_share: rows that keep a clean past, as it is when streaming."""

    kind: ClassVar[str] = "diffusion_forcing"
    clips: ClipConfig = field(default_factory=ClipConfig)
    clean_share: float = 0.25

    def build(self, sources: Sources, recipe: Recipe) -> DiffusionForcingObjective:
        """See ObjectiveConfig."""
        system = sources.system(recipe.init[-1])
        data = sources.latents(system, self.clips.branches)
        return DiffusionForcingObjective(
            system, data, self, recipe.batch, recipe.seed, recipe.stream
        )


class DiffusionForcingObjective(TransformerObjective):
    """Flow matching of every chunk after chunks as noisy as they happen to be."""

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        config: DiffusionForcingConfig,
        batch: int,
        seed: int,
        stream: str = "",
    ) -> None:
        super().__init__(system, data, config.clips, batch, seed, stream)
        self.config = config

    def step(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
        share: Share = WHOLE,
    ) -> Turns:
        """Mean over the branches of the noisy pass, plus teacher forcing on the other rows."""
        draws, batch, weights = self.share(batch, generator, share)
        part, values = self.config.clean_share, {}
        noisy = log_losses(values, "flow", self._noisy_past(batch, draws, weights))
        rows = max(1, round(draws.total * part))
        head = draws.head(rows)
        weights = {name: weight[:rows] for name, weight in weights.items()}
        clean = self.teacher_forcing(self.model, batch.head(len(head)), head, weights)
        loss = (1 - part) * noisy + part * log_losses(values, "clean_past", clean)
        yield "model", {**values, "loss": loss}

    def _noisy_past(
        self, batch: LatentBatch, draws: Draws, weights: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """One pass: every chunk looks back on the noisy chunks of the same pass."""
        clean = batch.clean(self.branches)
        parts = clean.modalities
        conditions = batch.conditions(self.model, self.branches)
        context = Context(conditions, ParallelHistory(self.model.config.window))
        sigma = dict.fromkeys(parts, draw_sigma(clean.shape[1], draws))
        noise = draw_noise(parts, draws)
        return flow_matching(self.model, parts, noise, sigma, context, weights, draws)
