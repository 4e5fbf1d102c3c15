"""Mutual Forcing: Few mode writes its own history, Multi mode learns the real next chunk in it, and
teaches Few mode (paper, stage 3; docs/method.md): L = L_FM + 2/3 L_SC + 1/3 L_DMD.

`MutualForcingObjective.step` is the method, from top to bottom. With losses left out, or with real history,
the same step is its own ablation and two of its baselines (recipes.py): ShortCut and DMD with teacher
forcing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.codecs.protocol import FaceCodec
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.types import AVLatents

from ..data.latents import LatentBatch, LatentDataset
from ..distributed import copied
from ..stage_config import WHOLE, Recipe, Share, Sources, Turns
from .base import ClipConfig, TransformerObjective
from .dmd import distribution_matching, draw_level, fake_flow_matching, few_estimate
from .draws import Draws
from .guidance_distillation import GuidanceLeak, distilled_share
from .losses import (
    DEFAULT_GUIDANCE,
    NO_GUIDANCE,
    Guidance,
    Score,
    causal_teacher,
    guided_teacher,
    log_losses,
    multi_mode,
    prefill_context,
)
from .rollout import (
    ROLLOUT,
    Rollout,
    draw_span,
    follow_on,
    roll_out,
    sample_on_real_history,
)
from .self_consistency import self_consistency


@dataclass(frozen=True)
class RolloutConfig:
    """How much of its history the model makes itself.

    longest: chunks of a generated stretch; it grows to this over the first `ramp` steps. real_share: rows
    whose history stays purely real.
    """

    longest: int = 8
    ramp: int = 1
    real_share: float = 0.4


@dataclass(frozen=True)
class DMDConfig:
    """weight: of the loss. fake_updates: the fake score's updates per step."""

    weight: float = 1 / 3
    fake_updates: int = 2


@dataclass(frozen=True)
class MutualForcingConfig:
    """rollout: None is teacher forcing throughout. flow, consistency: weights of the losses; dmd: None
    leaves it, and the fake score, out. guidance: of the Multi mode that is folded into Few mode.
    audio_driven: rows whose audio is given, which are among those with real history. freeze_text: keep the
    text encoder, so that a sound reader that says what it says still fits.
    """

    kind: ClassVar[str] = "mutual_forcing"
    clips: ClipConfig = field(default_factory=lambda: ClipConfig(lengths=(4,)))
    rollout: RolloutConfig | None = RolloutConfig()
    audio_driven: float = 0.15
    guidance: Guidance = DEFAULT_GUIDANCE
    flow: float = 1.0
    consistency: float = 2 / 3
    dmd: DMDConfig | None = DMDConfig()
    freeze_text: bool = False

    def build(self, sources: Sources, recipe: Recipe) -> MutualForcingObjective:
        """See ObjectiveConfig."""
        system = sources.system(recipe.init[-1])
        data = sources.latents(system, self.clips.branches)
        return MutualForcingObjective(system, data, self, recipe.batch, recipe.seed, recipe.stream)


class MutualForcingObjective(TransformerObjective):
    """See the module and the configuration."""

    sampler = ROLLOUT

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        config: MutualForcingConfig,
        batch: int,
        seed: int,
        stream: str = "",
    ) -> None:
        super().__init__(system, data, config.clips, batch, seed, stream)
        self.config = config
        if config.freeze_text:
            self.model.freeze_text()
        if config.dmd:
            self.fake = copied(self.model)
            self.networks["fake"] = self.fake
        # Latents of motion may be shifted; of whole pictures the sum of two is no third.
        moves = isinstance(system.video_codec, FaceCodec)
        self.memory = data.memory() if config.rollout and moves else None
        start = self.validation_batch()
        self.leak = GuidanceLeak(self.model, start, self.branches, config.guidance)

    def step(
        self,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
        share: Share = WHOLE,
    ) -> Turns:
        """The model's turn, then the fake score's."""
        config, model = self.config, self.model
        draws, batch, weights = self.share(batch, generator, share)
        audio_mask = self._draw_audio_mask(draws)
        batch = self.drop_transcript(batch, audio_mask, draws)
        clean = batch.clean(self.branches)

        # Rollout: Few mode replaces a stretch of the real clip by chunks of its own, each after the last.
        # The averaged weights do so, as they are what is served. Nothing here carries a gradient.
        rollout = self._roll_out(ema, batch, clean, draws, step)
        # The real chunks as they would follow from that past, which no recording shows.
        target = self._follow_on(clean, rollout)

        # Context: what every chunk looks back on, computed once for all losses. The teacher is the averaged
        # model in the same past: guided Multi mode for the shortest intervals, Few mode for longer ones.
        context = prefill_context(model, rollout.past, batch.conditions(model, self.branches))
        teacher = causal_teacher(ema, batch, rollout.past, config.guidance)
        values, total = {"drift": _distance(rollout.clip, clean, draws)}, []

        # Flow: Multi mode learns the real next chunk in a past that Few mode wrote.
        if config.flow:
            parts = self.match(model, target, context, draws, weights, audio_mask)
            total.append(config.flow * log_losses(values, "flow", parts))

        # Consistency: a long step of Few mode equals two shorter ones of the teacher's.
        if config.consistency:
            chunks = self._real_or_made(target, rollout, draws, audio_mask)
            parts = self_consistency(model, context, teacher, chunks, weights, draws, audio_mask)
            total.append(config.consistency * log_losses(values, "consistency", parts))

        # DMD: where Few mode's clean estimates of its own chunks should move, by two scores: the teacher's
        # Multi mode, and one that knows only what Few mode makes.
        made = rollout.weights(weights)
        if config.dmd:
            judged = few_estimate(model, rollout, context.frozen())
            real, fake = multi_mode(teacher), self._fake_score(batch, rollout)
            level = draw_level(clean.shape[1], draws)
            parts = distribution_matching(judged, real, fake, level, made, draws)
            total.append(config.dmd.weight * log_losses(values, "dmd", parts))
        # Not held while other shares of the batch have their turn: keys and values of three passes.
        context = teacher = real = None
        yield "model", {**values, "loss": sum(total)}

        # Fake score: it learns the very estimates that it has judged.
        for _ in range(config.dmd.fake_updates if config.dmd else 0):
            level = draw_level(clean.shape[1], draws)
            estimates = {name: part.detach() for name, part in judged.items()}
            fake, values = self._fake_score(batch, rollout), {}
            parts = fake_flow_matching(fake, estimates, level, made, draws)
            yield "fake", {"loss": log_losses(values, "flow", parts), **values}

    def figures(self, model: JointModel, batch: LatentBatch) -> dict[str, float]:
        """distilled_BRANCH (`distilled_share`) and leaked_BRANCH (`GuidanceLeak`)."""
        generator = torch.Generator(self.device()).manual_seed(1)
        shares = distilled_share(model, batch, self.branches, self.config.guidance, generator)
        values = {f"distilled_{name}": share for name, share in shares.items()}
        return values | {f"leaked_{n}": share for n, share in self.leak(model, batch).items()}

    def _roll_out(
        self,
        model: JointModel,
        batch: LatentBatch,
        clean: AVLatents,
        draws: Draws,
        step: int,
    ) -> Rollout:
        config = self.config.rollout
        if config is None:
            return sample_on_real_history(model, batch, clean, draws)
        longest = 1 + int((config.longest - 1) * min(1.0, step / max(1, config.ramp)))
        span = draw_span(clean.shape[1], longest, self._generated(draws.total), draws)
        return roll_out(model, batch, clean, span, draws)

    def _follow_on(self, clean: AVLatents, rollout: Rollout) -> AVLatents:
        if self.memory is None:
            return clean
        grid = self.model.config.video.grid
        return follow_on(clean, rollout.past, self.memory.to(self.device()), grid)

    def _generated(self, rows: int) -> int:
        """How many rows, the first ones, get a history of the model's own making."""
        rollout = self.config.rollout
        return max(1, rows - int(rows * rollout.real_share)) if rollout else 0

    def _draw_audio_mask(self, draws: Draws) -> Tensor:
        """Rows of the whole batch whose audio is given, bool [B]: only where the history is real, because the
        rollout makes sound of its own.
        """
        rows, first = draws.total, self._generated(draws.total)
        share = self.config.audio_driven * rows / max(1, rows - first)
        draw = draws.uniform_of_all()
        return (draw < share) & (torch.arange(rows, device=draw.device) >= first)

    def _real_or_made(
        self, target: AVLatents, rollout: Rollout, draws: Draws, audio_mask: Tensor
    ) -> AVLatents:
        """What self-consistency noises: real chunks, in half of the rows those that the rollout made."""
        made = draws.uniform_of_all() < 0.5
        pick = draws.own(rollout.made & (made & ~audio_mask)[:, None])[:, :, None, None]
        return target.zip(rollout.clip, lambda real, made: torch.where(pick, made, real))

    def _fake_score(self, batch: LatentBatch, rollout: Rollout) -> Score:
        """Multi mode of the fake score, whose history carries no gradient."""
        conditions = batch.conditions(self.fake, self.branches)
        with torch.no_grad():
            context = prefill_context(self.fake, rollout.past, conditions)
        return multi_mode(guided_teacher(self.fake, context, context, NO_GUIDANCE))


def _distance(ours: AVLatents, real: AVLatents, draws: Draws) -> Tensor:
    """Mean squared difference of the histories: 0 where nothing was generated."""
    apart = ours.zip(real, lambda a, b: draws.mean((a - b).square()))
    return torch.stack(list(apart.modalities.values())).mean()
