"""All arithmetic of frames, latents, tokens, samples and seconds. Nothing else computes these.

A chunk is 0.64 s: 16 frames and 10,240 samples. Both autoencoders make 25 latents a second, one for every
frame and one for every 640 samples, and a latent is a token: 16 of each branch in a chunk. Shape letters:
B batch, K chunks, N tokens of a chunk, C channels of a latent, T latents in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .config import FPS, SAMPLE_RATE

LATENTS_PER_SECOND = FPS
TOKENS_PER_CHUNK = 16
"""Of each branch."""
CHUNK_SECONDS = TOKENS_PER_CHUNK / LATENTS_PER_SECOND

FRAMES_PER_CHUNK = TOKENS_PER_CHUNK
SAMPLES_PER_LATENT = SAMPLE_RATE // LATENTS_PER_SECOND
SAMPLES_PER_CHUNK = TOKENS_PER_CHUNK * SAMPLES_PER_LATENT

POSITIONS_PER_SECOND = 25.0
"""One unit of rotary time is 1/25 s, for every modality."""


def chunks_for_seconds(seconds: float) -> int:
    """Return the least number of chunks, at least one, that lasts `seconds`."""
    return max(1, math.ceil(seconds / CHUNK_SECONDS - 1e-6))


def chunks_for_samples(samples: int) -> int:
    """Return the least number of chunks, at least one, that holds `samples`."""
    return max(1, -(-samples // SAMPLES_PER_CHUNK))


def latents_to_tokens(latents: Tensor) -> Tensor:
    """Split latents [B, C, T] into tokens of whole chunks [B, K, 16, C].

    Raises ValueError unless T is a whole number of chunks.
    """
    batch, channels, time = latents.shape
    if time % TOKENS_PER_CHUNK:
        raise ValueError(f"{time} latents are no whole number of chunks.")
    return latents.transpose(1, 2).reshape(batch, -1, TOKENS_PER_CHUNK, channels)


def tokens_to_latents(tokens: Tensor) -> Tensor:
    """Undo `latents_to_tokens`: [B, K, 16, C] to [B, C, T]."""
    return tokens.flatten(1, 2).transpose(1, 2)


def last_tokens(tokens: Tensor, count: int = 1) -> Tensor:
    """The last tokens of each chunk: [B, K, 16, C] to [B, K, count, C]."""
    return tokens[:, :, -count:]


def held_still(token: Tensor) -> Tensor:
    """A token [..., 1, C] for the length of a chunk: [..., 16, C]."""
    return token.expand(*token.shape[:-2], TOKENS_PER_CHUNK, -1)


def token_seconds() -> Tensor:
    """Start and end of each token of a chunk, seconds from its start: float32 [2, 16]."""
    edges = torch.arange(TOKENS_PER_CHUNK + 1, dtype=torch.float32) / LATENTS_PER_SECOND
    return torch.stack([edges[:-1], edges[1:]])


def token_positions(count: int = TOKENS_PER_CHUNK) -> Tensor:
    """Rotary times (token midpoints) of consecutive tokens from the chunk's start, float64 [count]."""
    step = POSITIONS_PER_SECOND / LATENTS_PER_SECOND
    return (torch.arange(count, dtype=torch.float64) + 0.5) * step


def history_mask(chunks: int, offsets: Sequence[int]) -> Tensor:
    """Which slots around each chunk hold a chunk: bool [chunks, len(offsets)], True = there."""
    slot = torch.arange(chunks)[:, None] + torch.tensor(offsets)[None]
    return (slot >= 0) & (slot < chunks)


def block_causal_mask(chunks: int, tokens: int, window: int) -> Tensor:
    """The mask of one parallel pass over [clean chunks | noisy chunks], bool [2KN, 2KN], True = seen.

    Clean chunk k sees clean chunks k-window..k; noisy chunk k sees clean chunks k-window..k-1
    and itself. It states the rule for tests; the model attends by unfolding (models/attention.py).
    """
    query = torch.arange(chunks)[:, None]
    key = torch.arange(chunks)[None]
    past = (key < query) & (key >= query - window)
    own = key == query
    clean_rows = torch.cat([past | own, torch.zeros_like(own)], dim=1)
    noisy_rows = torch.cat([past, own], dim=1)
    mask = torch.cat([clean_rows, noisy_rows])
    return mask.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
