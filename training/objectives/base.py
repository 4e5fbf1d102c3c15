"""What every stage of the transformer shares: the model, its clips, sampling for a look."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import AVLatents

from ..data.latents import Dropout, LatentBatch, LatentDataset
from ..samples import write_samples_sheet
from ..stage_config import Share
from .draws import Draws
from .losses import (
    Context,
    draw_noise,
    draw_sigma,
    flow_matching,
    levels_of,
    mask_audio,
    prefill_context,
)

VALIDATION_CLIPS = 16
VALIDATION_CHUNKS = 4
SHOWN_CLIPS = 3
"""Of samples; no more than half a batch has, where even that is dear."""
DROP_TRANSCRIPT = 0.7
"""Share of the rows with given audio that must do without the transcript, as a user's sound does."""


@dataclass(frozen=True)
class ClipConfig:
    """What batches of the corpus are made of.

    branches: those that take part. lengths: clips of so many chunks, one length per batch; longer ones come
    in smaller batches.
    """

    branches: tuple[str, ...] = ("video", "audio")
    lengths: tuple[int, ...] = (8,)
    dropout: Dropout = field(default_factory=Dropout)


class TransformerObjective:
    """Base of the transformer's stages.

    batch: clips in a batch of the shortest length. stream: what names the random numbers of the batches:
    stages of one stream see the same clips, others never do.
    """

    splits = True
    streams = True
    """Whether the model can continue a clip chunk by chunk."""
    sampler = Sampler(12, "multi", 1.0)
    """How it does so for a look."""

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        clips: ClipConfig,
        batch: int,
        seed: int,
        stream: str = "",
    ) -> None:
        self.system, self.data, self.clips, self.size = system, data, clips, batch
        self.seeds = (seed, zlib.crc32(stream.encode()))
        self.branches = clips.branches
        self.model: JointModel = system.model.requires_grad_(True)
        self.networks: dict[str, nn.Module] = {"model": self.model}

    def batch(self, step: int) -> LatentBatch:
        """Crops of one of the lengths from the training split, about as many chunks in all for each."""
        rng = np.random.default_rng([*self.seeds, step])
        lengths = self.clips.lengths
        length = int(rng.choice(lengths))
        rows = self.size if len(lengths) == 1 else max(2, self.size * min(lengths) // length)
        return self.data.batch(rng, "train", rows, length, self.clips.dropout)

    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def share(
        self, batch: LatentBatch, generator: torch.Generator, share: Share
    ) -> tuple[Draws, LatentBatch, dict[str, Tensor]]:
        """The random numbers of a step; the rows of its batch that are computed here, on the model's device;
        how much each token of the whole batch counts.
        """
        draws, device = Draws(generator, len(batch.has_voice), share), self.device()
        weights = {name: part.to(device) for name, part in batch.weights(self.branches).items()}
        return draws, batch.map(draws.own).to(device), weights

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add."""

    @torch.no_grad()
    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Held-out flow-matching loss with fixed noise, and a generated clip to look at."""
        batch = self.validation_batch()
        generator = torch.Generator(self.device()).manual_seed(1)
        draws = Draws(generator, len(batch.has_voice))
        values = {f"flow_{n}": float(v) for n, v in self.validate(ema, batch, draws).items()}
        values |= self.figures(ema, batch)
        if self.streams:
            system = replace(self.system, model=ema)
            values |= write_samples_sheet(
                system, self.data, self.branches, folder, step, self.sampler,
                count=max(1, min(SHOWN_CLIPS, self.size // 2)),
            )  # fmt: skip
        return {f"heldout/{name}": value for name, value in values.items()}

    def validation_batch(self) -> LatentBatch:
        """The same clips every time, with all their conditions, half of them as streams begin."""
        rng = np.random.default_rng([self.seeds[0], 2**31])
        split = "development" if self.data.corpus.split("development") else "train"
        all_conditions = Dropout(0, 0, 0, 0, 0, 0, beginning=0.5)
        return self.data.batch(rng, split, VALIDATION_CLIPS, VALIDATION_CHUNKS, all_conditions).to(
            self.device()
        )

    def figures(self, model: JointModel, batch: LatentBatch) -> dict[str, float]:
        """What else a method wants to know of its model on the held-out batch, by name."""
        return {}

    def validate(self, model: JointModel, batch: LatentBatch, draws: Draws) -> dict[str, Tensor]:
        """Held-out loss per branch."""
        return self.teacher_forcing(model, batch, draws, batch.weights(self.branches))

    def teacher_forcing(
        self, model: JointModel, batch: LatentBatch, draws: Draws, weights: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Flow matching with real history, per branch."""
        clean = batch.clean(self.branches)
        context = prefill_context(model, clean, batch.conditions(model, self.branches))
        return self.match(model, clean, context, draws, weights)

    def match(
        self,
        model: JointModel,
        clean: AVLatents,
        context: Context,
        draws: Draws,
        weights: dict[str, Tensor],
        audio_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Flow matching of every chunk; where `audio_mask` (bool [B]) the audio is held clean."""
        parts, held = clean.modalities, None if audio_mask is None else draws.own(audio_mask)
        sigma = levels_of(parts, draw_sigma(clean.shape[1], draws), held)
        noise = draw_noise(parts, draws)
        weights = mask_audio(weights, audio_mask)
        return flow_matching(model, parts, noise, sigma, context, weights, draws)

    def drop_transcript(self, batch: LatentBatch, audio_mask: Tensor, draws: Draws) -> LatentBatch:
        """Most rows with given audio (bool [B]) have to do without the transcript."""
        dropped = audio_mask & (draws.uniform_of_all() < DROP_TRANSCRIPT)
        return batch.without_transcript(draws.own(dropped))
