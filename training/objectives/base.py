"""What every stage of the transformer shares: the model, its data, sampling for a look."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mutual_forcing.checkpoint import System
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import AVLatents

from ..data.latents import Dropout, LatentBatch, LatentDataset
from ..samples import write_samples_sheet
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
DROP_TRANSCRIPT = 0.7
"""Share of the rows with given audio that must do without the transcript, as a user's sound does."""


class TransformerObjective:
    """Base of the transformer's stages; `branches` are those that take part.

    lengths: clips of so many chunks, one length per batch; longer ones come in smaller batches. stream: what
    names the random numbers of the batches: stages of one stream see the same clips, others never do.
    """

    streams = True
    """Whether the model can continue a clip chunk by chunk."""
    sampler = Sampler(12, "multi", 1.0)
    """How it does so for a look."""

    def __init__(
        self,
        system: System,
        data: LatentDataset,
        batch: int,
        seed: int,
        branches: tuple[str, ...] = ("video", "audio"),
        lengths: tuple[int, ...] = (8,),
        dropout: Dropout | None = None,
        stream: str = "",
    ) -> None:
        self.system, self.data, self.size = system, data, batch
        self.seeds = (seed, zlib.crc32(stream.encode()))
        self.branches, self.lengths = tuple(branches), tuple(lengths)
        self.dropout = dropout or Dropout()
        self.model: AVTransformer = system.model.requires_grad_(True)
        self.networks: dict[str, nn.Module] = {"model": self.model}
        self.updates: dict[str, int] = {}

    def batch(self, step: int) -> LatentBatch:
        """Crops of one of `lengths` from the training split, about as many chunks in all for each."""
        rng = np.random.default_rng([*self.seeds, step])
        length = int(rng.choice(self.lengths))
        rows = (
            self.size if len(self.lengths) == 1 else max(2, self.size * min(self.lengths) // length)
        )
        return self.data.batch(rng, "train", rows, length, self.dropout)

    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add."""

    @torch.no_grad()
    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Held-out flow-matching loss with fixed noise, and a generated clip to look at."""
        rng = np.random.default_rng([self.seeds[0], 2**31])
        split = "heldout" if self.data.corpus.split("heldout") else "train"
        batch = self.data.batch(
            rng, split, VALIDATION_CLIPS, 4, Dropout(0, 0, 0, 0, 0, 0, motion=0.5)
        )
        batch = batch.to(self.device())
        generator = torch.Generator(self.device()).manual_seed(1)
        values = {f"flow_{n}": float(v) for n, v in self.validate(ema, batch, generator).items()}
        values |= self.figures(ema, batch)
        if self.streams:
            system = replace(self.system, model=ema)
            values |= write_samples_sheet(
                system, self.data, self.branches, folder, step, self.sampler
            )
        return {f"heldout/{name}": value for name, value in values.items()}

    def figures(self, model: AVTransformer, batch: LatentBatch) -> dict[str, float]:
        """What else a method wants to know of its model on the held-out batch, by name."""
        return {}

    def validate(
        self, model: AVTransformer, batch: LatentBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Held-out loss per branch."""
        return self.teacher_forcing(model, batch, generator)

    def teacher_forcing(
        self, model: AVTransformer, batch: LatentBatch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Flow matching with real history, per branch."""
        clean = batch.clean(self.branches)
        context = prefill_context(model, clean, batch.conditions(model, self.branches))
        weights = batch.weights(self.branches)
        return self.match(model, clean, context, generator, weights)

    def match(
        self,
        model: AVTransformer,
        clean: AVLatents,
        context: Context,
        generator: torch.Generator,
        weights: dict[str, Tensor],
        audio_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Flow matching of every chunk; where `audio_mask` (bool [B]) the audio is held clean."""
        parts = clean.modalities
        sigma = levels_of(parts, draw_sigma(clean.shape, generator), audio_mask)
        noise = draw_noise(parts, generator)
        return flow_matching(model, parts, noise, sigma, context, mask_audio(weights, audio_mask))

    def drop_transcript(
        self, batch: LatentBatch, audio_mask: Tensor, generator: torch.Generator
    ) -> LatentBatch:
        """Most rows with given audio (bool [B]) have to do without the transcript."""
        draw = torch.rand(len(audio_mask), generator=generator, device=self.device())
        return batch.without_transcript(audio_mask & (draw < DROP_TRANSCRIPT))
