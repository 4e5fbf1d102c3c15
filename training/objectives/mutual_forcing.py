"""Mutual Forcing: Few mode writes its own history, Multi mode learns the real next chunk in it, and
teaches Few mode (paper, stage 3; docs/method.md): L = L_FM + 2/3 L_SC + 1/3 L_DMD.

With other weights, or with real history, the same objective is its own ablation and two of its baselines
(recipes.py): ShortCut and DMD with teacher forcing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.types import AVLatents

from ..data.latents import Dropout, LatentBatch, LatentDataset
from .base import TransformerObjective
from .dmd import distribution_matching, draw_level, fake_flow_matching, few_estimate
from .guidance_distillation import distilled_share
from .losses import (
    GUIDANCE,
    NO_GUIDANCE,
    Context,
    Guidance,
    Modalities,
    Score,
    Teacher,
    causal_teacher,
    guided_teacher,
    log_losses,
    multi_mode,
    prefill_context,
)
from .rollout import (
    ROLLOUT,
    Rollout,
    Span,
    draw_span,
    follow_on,
    roll_out,
    sample_on_real_history,
)
from .self_consistency import self_consistency


@dataclass(frozen=True)
class Shared:
    """What the model's turn leaves for the fake score's turns of the same step."""

    batch: LatentBatch
    rollout: Rollout
    judged: Modalities | None = None
    """What the scores saw of Few mode: the fake score learns the very same."""


class MutualForcingObjective(TransformerObjective):
    """See the module.

    max_rollout: longest generated stretch; it grows to this over the first `ramp` steps.
    real_share: rows whose history stays purely real; audio_driven: rows whose audio is given, which are among
    them. own_history: False = teacher forcing throughout.
    flow, consistency, dmd: weights of the losses; fake_updates: fake score's updates per step.
    guidance: scale by branch of the guided Multi mode that is folded into Few mode.
    critic: what the fake score starts from; None is the model itself.
    """

    sampler = ROLLOUT

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        batch: int,
        seed: int,
        lengths: tuple[int, ...] = (4,),
        dropout: Dropout | None = None,
        own_history: bool = True,
        max_rollout: int = 8,
        ramp: int = 1,
        real_share: float = 0.4,
        audio_driven: float = 0.15,
        guidance: Guidance = GUIDANCE,
        flow: float = 1.0,
        consistency: float = 2 / 3,
        dmd: float = 1 / 3,
        fake_updates: int = 2,
        critic: AVTransformer | None = None,
        stream: str = "",
    ) -> None:
        super().__init__(system, data, batch, seed, ("video", "audio"), lengths, dropout, stream)
        self.own_history = own_history
        self.max_rollout, self.ramp, self.real_share = max_rollout, ramp, real_share
        self.audio_driven, self.guidance = audio_driven, guidance
        self.flow, self.consistency, self.dmd = flow, consistency, dmd
        if dmd:
            self.fake = copy.deepcopy(critic or self.model).requires_grad_(True)
            self.networks["fake"] = self.fake
            self.updates = {"fake": fake_updates}
        self.memory = data.memory() if own_history and (flow or consistency) else None
        self._shared: Shared | None = None

    def losses(
        self,
        network: str,
        batch: LatentBatch,
        ema: nn.Module,
        generator: torch.Generator,
        step: int,
    ) -> dict[str, Tensor]:
        """The model's hybrid loss, then flow matching of the fake score on the same rollout."""
        if network == "fake":
            return self._fake_losses(generator)
        batch = batch.to(self.device())
        audio_mask = self._draw_audio_mask(len(batch.has_voice), generator)
        batch = self.drop_transcript(batch, audio_mask, generator)
        clean = batch.clean(self.branches)
        rollout = self._rollout(ema, batch, clean, generator, step)
        self._shared = shared = Shared(batch, rollout)
        context, teacher = self._context(shared), self._teacher(ema, shared)
        weights = batch.weights(self.branches)
        values, total = {"drift": _distance(rollout.clip, clean)}, []
        target = self._target(clean, rollout)
        if self.flow:
            parts = self.match(self.model, target, context, generator, weights, audio_mask)
            total.append(self.flow * log_losses(values, "flow", parts))
        if self.consistency:
            to_noise = self._chunks_to_noise(target, rollout, generator, audio_mask)
            parts = self_consistency(
                self.model, context, teacher, to_noise, weights, generator, audio_mask
            )
            total.append(self.consistency * log_losses(values, "consistency", parts))
        if self.dmd:
            estimate = few_estimate(self.model, rollout, context.frozen())
            judged = self._judged(estimate, rollout)
            self._shared = replace(shared, judged={n: x.detach() for n, x in judged.items()})
            parts = distribution_matching(
                judged,
                multi_mode(teacher),
                self._fake_score(shared),
                self._level(rollout, generator),
                rollout.weights(weights),
                generator,
            )
            total.append(self.dmd * log_losses(values, "dmd", parts))
        return {**values, "loss": sum(total)}

    def figures(self, model: AVTransformer, batch: LatentBatch) -> dict[str, float]:
        """folded_BRANCH (see `distilled_share`), where Multi mode is learned beside Few mode."""
        if not self.flow:
            return {}
        generator = torch.Generator(self.device()).manual_seed(1)
        shares = distilled_share(model, batch, self.branches, self.guidance, generator)
        return {f"folded_{name}": share for name, share in shares.items()}

    def _rollout(
        self,
        model: AVTransformer,
        batch: LatentBatch,
        clean: AVLatents,
        generator: torch.Generator,
        step: int,
    ) -> Rollout:
        if not self.own_history:
            return sample_on_real_history(model, batch, clean, generator)
        rows, chunks = clean.shape
        span = self._span(rows, chunks, generator, step)
        return roll_out(model, batch, clean, span, generator)

    def _span(self, rows: int, chunks: int, generator: torch.Generator, step: int) -> Span:
        """What Few mode makes of a batch."""
        longest = 1 + int((self.max_rollout - 1) * min(1.0, step / max(1, self.ramp)))
        return draw_span(chunks, longest, self._generated(rows), generator)

    def _target(self, clean: AVLatents, rollout: Rollout) -> AVLatents:
        """The real chunks as they follow from what the model looks back on."""
        if self.memory is None:
            return clean
        grid = self.model.config.video.grid
        return follow_on(clean, rollout.past, self.memory.to(self.device()), grid)

    def _generated(self, rows: int) -> int:
        """How many rows, the first ones, get a history of the model's own making."""
        return max(1, rows - int(rows * self.real_share)) if self.own_history else 0

    def _context(self, shared: Shared) -> Context:
        """The model's view of its own history, which all its losses share."""
        conditions = shared.batch.conditions(self.model, self.branches)
        with torch.set_grad_enabled(bool(self.flow or self.consistency)):
            return prefill_context(self.model, shared.rollout.past, conditions)

    def _teacher(self, ema: AVTransformer, shared: Shared) -> Teacher:
        """What is held for the truth: the averaged weights, Multi mode guided."""
        return causal_teacher(ema, shared.batch, shared.rollout.past, self.guidance)

    def _draw_audio_mask(self, rows: int, generator: torch.Generator) -> Tensor:
        """Rows whose audio is given, bool [rows]: only where the history is real, because the rollout makes
        sound of its own.
        """
        first = self._generated(rows)
        share = self.audio_driven * rows / max(1, rows - first)
        draw = torch.rand(rows, generator=generator, device=self.device())
        return (draw < share) & (torch.arange(rows, device=self.device()) >= first)

    def _chunks_to_noise(
        self, clean: AVLatents, rollout: Rollout, generator: torch.Generator, audio_mask: Tensor
    ) -> Modalities:
        """What self-consistency noises: real chunks, in half of the rows those that the rollout made."""
        rows = len(rollout.made)
        own = torch.rand(rows, generator=generator, device=self.device()) < 0.5
        pick = (rollout.made & (own & ~audio_mask)[:, None])[:, :, None, None]
        return {
            n: torch.where(pick, rollout.clip.modalities[n], p) for n, p in clean.modalities.items()
        }

    def _fake_losses(self, generator: torch.Generator) -> Modalities:
        assert self._shared is not None, "the model takes its turn first"
        batch, rollout = self._shared.batch, self._shared.rollout
        level = self._level(rollout, generator)
        weights = rollout.weights(batch.weights(self.branches))
        score = self._fake_score(self._shared)
        judged = self._shared.judged
        assert judged is not None, "the scores judge in the model's turn"
        parts = fake_flow_matching(score, judged, level, weights, generator)
        values: Modalities = {}
        return {"loss": log_losses(values, "flow", parts), **values}

    def _fake_score(self, shared: Shared) -> Score:
        """Multi mode of the fake score, whose history carries no gradient."""
        conditions = shared.batch.conditions(self.fake, self.branches)
        with torch.no_grad():
            context = prefill_context(self.fake, shared.rollout.past, conditions)
        return multi_mode(guided_teacher(self.fake, context, context, NO_GUIDANCE))

    def _level(self, rollout: Rollout, generator: torch.Generator) -> Tensor:
        return draw_level(tuple(rollout.made.shape), generator)

    def _judged(self, estimate: Modalities, rollout: Rollout) -> Modalities:
        """What the scores see of Few mode's estimates."""
        return estimate


def _distance(ours: AVLatents, real: AVLatents) -> Tensor:
    """Mean squared difference of the histories: 0 where nothing was generated."""
    pairs = [(ours.modalities[n], real.modalities[n]) for n in real.modalities]
    return torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
