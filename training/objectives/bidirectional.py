"""The bidirectional teacher that Self-Forcing needs and Mutual Forcing does without.

A whole clip is denoised at once at one noise level; every chunk sees those around it on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.models.kv_cache import ParallelHistory

from ..data.latents import LatentBatch
from ..stage_config import WHOLE, Recipe, Share, Sources, Turns
from .base import ClipConfig, TransformerObjective
from .draws import Draws
from .losses import Context, draw_noise, draw_sigma, flow_matching, log_losses


@dataclass(frozen=True)
class BidirectionalConfig:
    """Flow matching of whole clips."""

    kind: ClassVar[str] = "bidirectional"
    clips: ClipConfig = field(default_factory=ClipConfig)

    def build(self, sources: Sources, recipe: Recipe) -> BidirectionalObjective:
        """See ObjectiveConfig."""
        system = sources.system(recipe.init[-1])
        data = sources.latents(system, self.clips.branches)
        return BidirectionalObjective(
            system, data, self.clips, recipe.batch, recipe.seed, recipe.stream
        )


def clip_context(model: JointModel, batch: LatentBatch, branches: tuple[str, ...]) -> Context:
    """The context of a pass over a whole clip in which every chunk sees both ways."""
    history = ParallelHistory(model.config.window, both_ways=True)
    return Context(batch.conditions(model, branches), history)


class BidirectionalObjective(TransformerObjective):
    """Flow matching of whole clips."""

    streams = False

    def step(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
        share: Share = WHOLE,
    ) -> Turns:
        """Mean over the branches."""
        draws, batch, weights = self.share(batch, generator, share)
        parts = self.whole_clips(self.model, batch, draws, weights)
        values: dict[str, Tensor] = {}
        yield "model", {"loss": log_losses(values, "flow", parts), **values}

    def whole_clips(
        self, model: JointModel, batch: LatentBatch, draws: Draws, weights: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Flow matching per branch, one noise level per clip."""
        clean = batch.clean(self.branches)
        parts, (rows, chunks) = clean.modalities, clean.shape
        sigma = dict.fromkeys(parts, draw_sigma(1, draws).expand(rows, chunks))
        context = clip_context(model, batch, self.branches)
        noise = draw_noise(parts, draws)
        return flow_matching(model, parts, noise, sigma, context, weights, draws)

    @torch.no_grad()
    def validate(self, model: JointModel, batch: LatentBatch, draws: Draws) -> dict[str, Tensor]:
        """What this teacher does, not what a causal model does."""
        return self.whole_clips(model, batch, draws, batch.weights(self.branches))
