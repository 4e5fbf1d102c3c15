"""Self-Forcing (arXiv 2506.08009), the baseline: DMD from a fixed bidirectional teacher on own rollouts.

No flow matching, no self-consistency, and of the real clip the first chunk alone, as in image-to-video: the
student makes all that follows, and the teacher (stage `bidirectional`) is as good as it can get.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.types import AVLatents

from ..data.latents import LatentBatch, LatentDataset
from ..distributed import copied
from ..stage_config import WHOLE, Recipe, Share, Sources, Turns
from .base import ClipConfig, TransformerObjective
from .bidirectional import clip_context
from .dmd import distribution_matching, draw_level, fake_flow_matching, few_estimate
from .draws import Draws
from .losses import (
    DEFAULT_GUIDANCE,
    NO_GUIDANCE,
    Guidance,
    Modalities,
    Score,
    guided_teacher,
    log_losses,
    multi_mode,
    prefill_context,
)
from .rollout import ROLLOUT, Rollout, Span, roll_out


@dataclass(frozen=True)
class SelfForcingConfig:
    """guidance: of the teacher. fake_updates: the fake score's updates per step."""

    kind: ClassVar[str] = "self_forcing"
    clips: ClipConfig = field(default_factory=lambda: ClipConfig(lengths=(4,)))
    guidance: Guidance = DEFAULT_GUIDANCE
    fake_updates: int = 2

    def build(self, sources: Sources, recipe: Recipe) -> SelfForcingObjective:
        """See ObjectiveConfig; the recipe begins from the teacher's stage and the student's."""
        teacher, student = (sources.system(stage) for stage in recipe.init)
        data = sources.latents(student, self.clips.branches)
        return SelfForcingObjective(
            student, data, self, recipe.batch, recipe.seed, recipe.stream, teacher.model
        )


class SelfForcingObjective(TransformerObjective):
    """`teacher` is the bidirectional model; the fake score starts from it. Both judge whole clips."""

    sampler = ROLLOUT

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        config: SelfForcingConfig,
        batch: int,
        seed: int,
        stream: str,
        teacher: JointModel,
    ) -> None:
        super().__init__(system, data, config.clips, batch, seed, stream)
        self.config = config
        self.fake = copied(teacher).requires_grad_(True)
        self.networks["fake"] = self.fake
        self.teacher = teacher.requires_grad_(False).to(self.device())

    def step(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
        share: Share = WHOLE,
    ) -> Turns:
        """The model's turn, then the fake score's."""
        draws, batch, weights = self.share(batch, generator, share)
        clean = batch.clean(self.branches)

        # Rollout: to the end of every clip from the first step on; all that the teacher judges is the
        # student's own.
        rollout = whole_rollout(ema, batch, clean, draws)

        # DMD: the student's estimates, in a past that carries no gradient, as whole clips at one level,
        # which is what the teacher learned.
        conditions = batch.conditions(self.model, self.branches)
        with torch.no_grad():
            context = prefill_context(self.model, rollout.past, conditions)
        judged = whole_clip(few_estimate(self.model, rollout, context), rollout, draws)
        made = rollout.weights(weights)
        real, fake = self._real_score(batch), self._fake_score(batch)
        level = clip_level(clean.shape[1], draws)
        values: Modalities = {}
        parts = distribution_matching(judged, real, fake, level, made, draws)
        yield "model", {"loss": log_losses(values, "dmd", parts), **values}

        # Fake score: it learns the very clips that it has judged.
        estimates = {name: part.detach() for name, part in judged.items()}
        for _ in range(self.config.fake_updates):
            level, values = clip_level(clean.shape[1], draws), {}
            fake = self._fake_score(batch)
            parts = fake_flow_matching(fake, estimates, level, made, draws)
            yield "fake", {"loss": log_losses(values, "flow", parts), **values}

    @torch.no_grad()
    def _real_score(self, batch: LatentBatch) -> Score:
        said, unsaid = (
            clip_context(self.teacher, asked, self.branches)
            for asked in (batch, batch.without_text())
        )
        return multi_mode(guided_teacher(self.teacher, said, unsaid, self.config.guidance))

    def _fake_score(self, batch: LatentBatch) -> Score:
        context = clip_context(self.fake, batch, self.branches)
        return multi_mode(guided_teacher(self.fake, context, context, NO_GUIDANCE))


def whole_rollout(model: JointModel, batch: LatentBatch, clean: AVLatents, draws: Draws) -> Rollout:
    """Everything after the first chunk of every row."""
    return roll_out(model, batch, clean, Span(1, clean.shape[1] - 1, draws.total), draws)


def whole_clip(estimate: Modalities, rollout: Rollout, draws: Draws) -> Modalities:
    """Estimates where the rollout made chunks, the real ones elsewhere."""
    made = draws.own(rollout.made)[:, :, None, None]
    return {n: torch.where(made, e, rollout.clip.modalities[n]) for n, e in estimate.items()}


def clip_level(chunks: int, draws: Draws) -> Tensor:
    """One noise level for each clip, [B, chunks]."""
    return draw_level(1, draws).expand(-1, chunks)
