"""Self-Forcing (arXiv 2506.08009), the baseline: DMD from a fixed bidirectional teacher on own rollouts.

No flow matching, no self-consistency, and of the real clip the first chunk alone, as in image-to-video: the
student makes all that follows, and the teacher (stage `bidirectional`) is as good as it can get.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutual_forcing.checkpoint import System
from mutual_forcing.models.transformer import AVTransformer

from ..data.latents import LatentDataset
from .bidirectional import clip_context
from .dmd import draw_level
from .losses import NO_GUIDANCE, Modalities, Score, Teacher, guided_teacher, multi_mode
from .mutual_forcing import MutualForcingObjective, Shared
from .rollout import Rollout, Span


class SelfForcingObjective(MutualForcingObjective):
    """`teacher` is the bidirectional model; the fake score starts from it. Both judge whole clips."""

    def __init__(
        self, system: System, data: LatentDataset, teacher: AVTransformer, **options: object
    ) -> None:
        own = {"flow": 0.0, "consistency": 0.0, "dmd": 1.0, "real_share": 0.0, "critic": teacher}
        super().__init__(system, data, **{**options, **own})
        self.teacher = teacher.requires_grad_(False).to(self.device())

    def _span(self, rows: int, chunks: int, generator: torch.Generator, step: int) -> Span:
        """To the end of every clip from the first step on: what the teacher judges is the student's own."""
        return Span(1, chunks - 1, rows)

    @torch.no_grad()
    def _teacher(self, ema: AVTransformer, shared: Shared) -> Teacher:
        context, unconditional = (
            clip_context(self.teacher, asked, self.branches)
            for asked in (shared.batch, shared.batch.without_text())
        )
        return guided_teacher(self.teacher, context, unconditional, self.guidance)

    def _fake_score(self, shared: Shared) -> Score:
        context = clip_context(self.fake, shared.batch, self.branches)
        return multi_mode(guided_teacher(self.fake, context, context, NO_GUIDANCE))

    def _level(self, rollout: Rollout, generator: torch.Generator) -> Tensor:
        """One level for the whole clip, as the teacher learned it."""
        rows, chunks = rollout.made.shape
        return draw_level((rows, 1), generator).expand(rows, chunks)

    def _judged(self, estimate: Modalities, rollout: Rollout) -> Modalities:
        """Whole clips: the first chunk stays real."""
        made = rollout.made[:, :, None, None]
        return {n: torch.where(made, e, rollout.clip.modalities[n]) for n, e in estimate.items()}
