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
from .draws import Draws
from .losses import Modalities, draw_noise, prefill_context

ROLLOUT = Sampler(4, "few")
FARTHEST = 1.5
"""Deviations of standardised latents beyond this are faults to come back from."""


@dataclass(frozen=True)
class Rollout:
    """A clip [B, K, N, D] of which Few mode made a part.

    clip: with the generated chunks in place. past: what its chunks looked back on. made: bool [B, K],
    which were generated, of the whole batch as `weights` is. x: what Few mode held at the noise level `sigma`
    on its way to them; only meaningful where `made`.
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
    """Chunks `first` .. `first + length - 1` of the first `rows` rows of the whole batch are generated."""

    first: int
    length: int
    rows: int


def draw_span(chunks: int, longest: int, rows: int, draws: Draws) -> Span:
    """A stretch of 1 to `longest` chunks with a real chunk before it and one to follow it."""
    length = draws.integer(1, min(longest, chunks - 2))
    return Span(draws.integer(1, chunks - length - 1), length, rows)


@torch.no_grad()
def roll_out(
    model: JointModel,
    batch: LatentBatch,
    clean: AVLatents,
    span: Span,
    draws: Draws,
) -> Rollout:
    """Few mode continues the real chunks before the span, chunk by chunk, from its own history."""
    keep, head = _Exit(model, draws), draws.head(span.rows)
    rows, first = clean.map(lambda x: x[: len(head)]).modalities, span.first
    made = continue_clip(
        model, batch.head(len(head)), rows, first, span.length, ROLLOUT, head, keep
    )
    clip, seen = (_inserted(clean, chunks, span, head.count) for chunks in (made, keep.seen))
    where = torch.zeros(draws.total, clean.shape[1], dtype=torch.bool, device=draws.device)
    where[: span.rows, first : first + span.length] = True
    return Rollout(AVLatents.of(clip), AVLatents.of(clip), where, seen, keep.sigma)


@torch.no_grad()
def continue_clip(
    model: JointModel,
    batch: LatentBatch,
    clean: Modalities,
    first: int,
    length: int,
    sampler: Sampler,
    draws: Draws,
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
            noise = draw_noise(chunk, draws)
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
    model: JointModel, batch: LatentBatch, clean: AVLatents, draws: Draws
) -> Rollout:
    """Few mode makes every chunk after its real past, all in parallel (teacher forcing)."""
    context = prefill_context(model, clean, batch.conditions(model, tuple(clean.modalities)))
    keep = _Exit(model, draws)
    noise = draw_noise(clean.modalities, draws)
    made = sample_chunk(model, noise, context.conditions, context.history, ROLLOUT, watch=keep)
    everywhere = torch.ones(draws.total, clean.shape[1], dtype=torch.bool, device=draws.device)
    return Rollout(made, clean, everywhere, keep.seen[0], keep.sigma)


class _Exit:
    """Keeps what the sampler holds before one random step, the same for all chunks."""

    def __init__(self, model: JointModel, draws: Draws) -> None:
        self.step = draws.integer(0, ROLLOUT.steps - 1)
        self.sigma = sigma_schedule(ROLLOUT.steps, model.config.sigma_shift)[self.step]
        self.seen: list[Modalities] = []

    def __call__(self, step: int, x: Modalities) -> None:
        if step == self.step:
            self.seen.append(dict(x))


def _inserted(clean: AVLatents, chunks: list[Modalities], span: Span, rows: int) -> Modalities:
    """The clip with `chunks` in the place of the span in its first `rows` rows."""
    result = {}
    for name, tokens in clean.modalities.items():
        whole = tokens.clone()
        stretch = torch.cat([chunk[name][:rows] for chunk in chunks], 1).to(tokens.dtype)
        whole[:rows, span.first : span.first + span.length] = stretch
        result[name] = whole
    return result


def chunk_conditions(
    conditions: Conditions, model: JointModel, text: TextTokens, chunk: int
) -> Conditions:
    """The conditions of one chunk out of a clip's."""
    part = slice(chunk, chunk + 1)
    tokens = TextTokens(text.ids[:, part], text.start[:, part], text.end[:, part], text.caption)
    return Conditions(model.encode_text(tokens), conditions.references)
