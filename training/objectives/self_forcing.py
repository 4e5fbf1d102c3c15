"""Self-Forcing (arXiv 2506.08009), the baseline: DMD from a fixed bidirectional teacher on own rollouts.

No real data, no flow matching, no self-consistency: the student only sees what it makes itself, and
the teacher (stage `bidirectional`) is as good as the student can get.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.transformer import AVTransformer

from ..data.latents import LatentBatch, LatentDataset
from .bidirectional import clip_context
from .dmd import Parts, Score, distribution_matching, draw_level, fake_flow_matching, few_estimate
from .intervals import FINEST
from .losses import guided_teacher
from .mutual_forcing import MutualForcingObjective
from .rollout import Rollout


class SelfForcingObjective(MutualForcingObjective):
    """`teacher` is the bidirectional model; the fake score starts from it."""

    def __init__(
        self, system: System, data: LatentDataset, teacher: AVTransformer, **options: object
    ) -> None:
        # Whole clips come from Few mode; the first chunk may be real as in image-to-video.
        own = {"flow": 0.0, "consistency": 0.0, "dmd": 1.0, "real_share": 0.0}
        super().__init__(system, data, **{**options, **own})
        self.teacher = teacher.requires_grad_(False).to(self.device())
        self.fake = copy.deepcopy(teacher).requires_grad_(True)
        self.players["fake"] = self.fake

    def _matching(
        self,
        ema: nn.Module,
        batch: LatentBatch,
        rollout: Rollout,
        weights: Parts,
        generator: torch.Generator,
    ) -> Parts:
        level = self._level(rollout, generator)
        with torch.no_grad():
            real = clip_score(self.teacher, batch, self.branches, self.guidance_scale)
            fake = clip_score(self.fake, batch, self.branches)
        estimate = few_estimate(self.model, rollout, batch)
        made = rollout.made[:, :, None, None]
        # What is real stays real: the scores judge whole clips.
        clip = {n: torch.where(made, e, rollout.clip.parts[n]) for n, e in estimate.items()}
        return distribution_matching(clip, real, fake, level, rollout.weights(weights), generator)

    def _fake_losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        assert self._shared is not None, "the model takes its turn first"
        batch, rollout = self._shared.batch, self._shared.rollout
        level = self._level(rollout, generator)
        weights = rollout.weights(batch.weights(self.branches))
        score = clip_score(self.fake, batch, self.branches)
        parts = fake_flow_matching(score, rollout.clip.parts, level, weights, generator)
        return {"loss": sum(parts.values()) / len(parts)}

    def _level(self, rollout: Rollout, generator: torch.Generator) -> Tensor:
        rows, chunks = rollout.made.shape
        return draw_level((rows, 1), generator).expand(rows, chunks)


def clip_score(
    model: AVTransformer,
    batch: LatentBatch,
    branches: tuple[str, ...],
    guidance_scale: float = 1.0,
) -> Score:
    """Velocity of whole clips, every chunk seeing both ways."""
    context = clip_context(model, batch, branches)
    null = clip_context(model, batch.without_text(), branches) if guidance_scale != 1 else context
    teach = guided_teacher(model, context, null, guidance_scale, FINEST)
    return lambda x, level: teach(x, level, torch.zeros_like(level))
