"""What Few mode makes during training: the one rollout, by the functions that serve a stream.

A rollout replaces a stretch of a real clip by generated chunks. It carries no gradient; everything that
learns from it runs in parallel over chunks afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mutual_forcing.chunks import last_frames, repeat_static
from mutual_forcing.config import TokenGrid
from mutual_forcing.flow import sigma_schedule
from mutual_forcing.models.joint_model import Conditions, JointModel, StreamCache
from mutual_forcing.sampling import Sampler, sample_chunk, write_cache
from mutual_forcing.types import AVLatents, TextTokens

from ..data.latents import LatentBatch
from .losses import Modalities, draw_noise, prefill_context

ROLLOUT = Sampler(4, "few")
FARTHEST = 1.5
"""Deviations of standardised latents beyond this are faults to come back from."""


@dataclass(frozen=True)
class Rollout:
    """A clip [B, K, N, D] of which Few mode made a part.

    clip: with the generated chunks in place. past: what its chunks looked back on. made: bool [B, K],
    which were generated. x: what Few mode held at the noise level `sigma` on its way to them; only
    meaningful where `made`.
    """

    clip: AVLatents
    past: AVLatents
    made: Tensor
    x: Modalities
    sigma: float

    def weights(self, weights: Modalities) -> Modalities:
        """Token weights [B, K, N] that are zero outside the generated chunks."""
        return {name: part * self.made[:, :, None] for name, part in weights.items()}


@dataclass(frozen=True)
class Span:
    """Chunks `first` .. `first + length - 1` of the first `rows` rows are generated."""

    first: int
    length: int
    rows: int


def draw_span(chunks: int, longest: int, rows: int, generator: torch.Generator) -> Span:
    """A stretch of 1 to `longest` chunks with a real chunk before it and one to follow it."""
    length = draw_integer(1, min(longest, chunks - 2), generator)
    return Span(draw_integer(1, chunks - length - 1, generator), length, rows)


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform within low..high, both included."""
    draw = torch.randint(low, high + 1, (1,), generator=generator, device=generator.device)
    return int(draw)


@torch.no_grad()
def roll_out(
    model: JointModel,
    batch: LatentBatch,
    clean: AVLatents,
    span: Span,
    generator: torch.Generator,
) -> Rollout:
    """Few mode continues the real chunks before the span, chunk by chunk, from its own history."""
    keep = _Exit(model, generator)
    rows = clean.map(lambda x: x[: span.rows]).modalities
    made = continue_clip(
        model, batch.head(span.rows), rows, span.first, span.length, ROLLOUT, generator, keep
    )
    clip, seen = AVLatents.of(_inserted(clean, made, span)), _inserted(clean, keep.seen, span)
    return Rollout(clip, clip, _made(clean, span, generator.device), seen, keep.sigma)


@torch.no_grad()
def continue_clip(
    model: JointModel,
    batch: LatentBatch,
    clean: Modalities,
    first: int,
    length: int,
    sampler: Sampler,
    generator: torch.Generator,
    watch: Callable[[int, Modalities], None] | None = None,
    cache: StreamCache | None = None,
) -> list[Modalities]:
    """Generate chunks `first` .. `first + length - 1` after the real ones of `clean` (unguided).

    cache: what came before the clip, if anything.
    """
    conditions = batch.conditions(model, tuple(clean))
    cache = cache or model.new_cache()
    made: list[Modalities] = []
    for k in range(first + length):
        here = chunk_conditions(conditions, model, batch.text, k)
        chunk = {name: part[:, k : k + 1] for name, part in clean.items()}
        if k >= first:
            noise = draw_noise(chunk, generator)
            chunk = sample_chunk(model, noise, here, cache, sampler, watch=watch).modalities
            made.append(chunk)
        if k + 1 < first + length:
            write_cache(model, AVLatents.of(chunk), here, cache, sampler)
    return made


def follow_on(clean: AVLatents, past: AVLatents, memory: Tensor, grid: TokenGrid) -> AVLatents:
    """The real chunks as they would have gone on from another past, memory [F, Dv] of the video's F latent
    frames of a chunk.

    What differs where a past chunk ends is taken over and fades as the latents forget (LatentDataset.
    memory). A real chunk alone would teach to jump back to its own pose where chunks meet.
    """
    if clean.video is None or past.video is None:
        return clean
    apart = last_frames(past.video, grid)[:, :-1] - last_frames(clean.video, grid)[:, :-1]
    apart = F.pad(apart.clamp(-FARTHEST, FARTHEST), (0, 0, 0, 0, 1, 0))
    fading = memory.repeat_interleave(grid.frame_tokens, 0)
    return replace(clean, video=clean.video + fading * repeat_static(apart, grid))


@torch.no_grad()
def sample_on_real_history(
    model: JointModel, batch: LatentBatch, clean: AVLatents, generator: torch.Generator
) -> Rollout:
    """Few mode makes every chunk after its real past, all in parallel (teacher forcing)."""
    context = prefill_context(model, clean, batch.conditions(model, tuple(clean.modalities)))
    keep = _Exit(model, generator)
    noise = draw_noise(clean.modalities, generator)
    made = sample_chunk(model, noise, context.conditions, context.history, ROLLOUT, watch=keep)
    everywhere = torch.ones(clean.shape, dtype=torch.bool, device=generator.device)
    return Rollout(made, clean, everywhere, keep.seen[0], keep.sigma)


class _Exit:
    """Keeps what the sampler holds before one random step, the same for all chunks."""

    def __init__(self, model: JointModel, generator: torch.Generator) -> None:
        self.step = draw_integer(0, ROLLOUT.steps - 1, generator)
        self.sigma = sigma_schedule(ROLLOUT.steps, model.config.sigma_shift)[self.step]
        self.seen: list[Modalities] = []

    def __call__(self, step: int, x: Modalities) -> None:
        if step == self.step:
            self.seen.append(dict(x))


def _inserted(clean: AVLatents, chunks: list[Modalities], span: Span) -> Modalities:
    """The clip with `chunks` in the place of the span."""
    result = {}
    for name, tokens in clean.modalities.items():
        whole = tokens.clone()
        stretch = torch.cat([chunk[name] for chunk in chunks], 1).to(tokens.dtype)
        whole[: span.rows, span.first : span.first + span.length] = stretch
        result[name] = whole
    return result


def _made(clean: AVLatents, span: Span, device: torch.device) -> Tensor:
    made = torch.zeros(clean.shape, dtype=torch.bool, device=device)
    made[: span.rows, span.first : span.first + span.length] = True
    return made


def chunk_conditions(
    conditions: Conditions, model: JointModel, text: TextTokens, chunk: int
) -> Conditions:
    """The conditions of one chunk out of a clip's."""
    part = slice(chunk, chunk + 1)
    tokens = TextTokens(text.ids[:, part], text.start[:, part], text.end[:, part], text.caption)
    return Conditions(model.encode_text(tokens), conditions.references)
