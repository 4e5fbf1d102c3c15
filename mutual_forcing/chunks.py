"""All arithmetic of frames, latents, tokens, samples and seconds. Nothing else computes these.

A chunk is 0.64 s: 16 frames, 4 video latents of 8 x 8 (each 4 x 4 tokens after 2 x 2 patching),
16 audio latents, 10,240 samples. Shape letters: B batch, K chunks, N tokens of a chunk,
D numbers in a token, C latent channels, T latents in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .config import FPS, SAMPLE_RATE

FRAMES_PER_LATENT = 4
LATENT_GRID = 8
PATCH = 2
VIDEO_LATENTS_PER_CHUNK = 4
AUDIO_LATENTS_PER_SECOND = 25

FRAMES_PER_CHUNK = FRAMES_PER_LATENT * VIDEO_LATENTS_PER_CHUNK
CHUNK_SECONDS = FRAMES_PER_CHUNK / FPS
SAMPLES_PER_AUDIO_LATENT = SAMPLE_RATE // AUDIO_LATENTS_PER_SECOND
SAMPLES_PER_CHUNK = FRAMES_PER_CHUNK * SAMPLE_RATE // FPS
AUDIO_LATENTS_PER_CHUNK = SAMPLES_PER_CHUNK // SAMPLES_PER_AUDIO_LATENT

TOKEN_GRID = LATENT_GRID // PATCH
TOKENS_PER_VIDEO_LATENT = TOKEN_GRID * TOKEN_GRID
VIDEO_TOKENS_PER_CHUNK = TOKENS_PER_VIDEO_LATENT * VIDEO_LATENTS_PER_CHUNK
AUDIO_TOKENS_PER_CHUNK = AUDIO_LATENTS_PER_CHUNK

POSITIONS_PER_SECOND = 25.0
"""One unit of rotary time is 1/25 s, for every modality."""


def chunks_for_seconds(seconds: float) -> int:
    """Return the least number of chunks, at least one, that lasts `seconds`."""
    return max(1, math.ceil(seconds / CHUNK_SECONDS - 1e-6))


def chunks_for_samples(samples: int) -> int:
    """Return the least number of chunks, at least one, that holds `samples`."""
    return max(1, -(-samples // SAMPLES_PER_CHUNK))


def video_to_tokens(latents: Tensor) -> Tensor:
    """Patch video latents [B, C, T, 8, 8] into tokens of whole chunks [B, K, 64, 4 C].

    Raises ValueError unless T is a whole number of chunks.
    """
    batch, channels, time, height, width = latents.shape
    if time % VIDEO_LATENTS_PER_CHUNK:
        raise ValueError(f"{time} video latents are no whole number of chunks.")
    tokens = still_to_tokens(latents.transpose(1, 2).reshape(batch * time, channels, height, width))
    return tokens.reshape(batch, time // VIDEO_LATENTS_PER_CHUNK, VIDEO_TOKENS_PER_CHUNK, -1)


def tokens_to_video(tokens: Tensor) -> Tensor:
    """Undo `video_to_tokens`: [B, K, 64, 4 C] to [B, C, T, 8, 8]."""
    batch, chunks, _, dim = tokens.shape
    time = chunks * VIDEO_LATENTS_PER_CHUNK
    grid = tokens.reshape(batch, time, TOKEN_GRID, TOKEN_GRID, dim // PATCH**2, PATCH, PATCH)
    return grid.permute(0, 4, 1, 2, 5, 3, 6).reshape(
        batch, dim // PATCH**2, time, LATENT_GRID, LATENT_GRID
    )


def still_to_tokens(latent: Tensor) -> Tensor:
    """Patch one latent [B, C, 8, 8] into tokens [B, 16, 4 C]."""
    batch, channels = latent.shape[:2]
    grid = latent.reshape(batch, channels, TOKEN_GRID, PATCH, TOKEN_GRID, PATCH)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, TOKENS_PER_VIDEO_LATENT, -1)


def last_latent(tokens: Tensor) -> Tensor:
    """The tokens of each chunk's last video latent: [B, K, 64, D] to [B, K, 16, D]."""
    return tokens[:, :, -TOKENS_PER_VIDEO_LATENT:]


def held_still(latent: Tensor) -> Tensor:
    """A latent's tokens [..., 16, D] for the length of a chunk: [..., 64, D]."""
    repeats = [1] * (latent.ndim - 2) + [VIDEO_LATENTS_PER_CHUNK, 1]
    return latent.repeat(repeats)


def audio_to_tokens(latents: Tensor) -> Tensor:
    """Split audio latents [B, C, T] into tokens of whole chunks [B, K, 16, C].

    Raises ValueError unless T is a whole number of chunks.
    """
    batch, channels, time = latents.shape
    if time % AUDIO_LATENTS_PER_CHUNK:
        raise ValueError(f"{time} audio latents are no whole number of chunks.")
    return latents.transpose(1, 2).reshape(batch, -1, AUDIO_TOKENS_PER_CHUNK, channels)


def tokens_to_audio(tokens: Tensor) -> Tensor:
    """Undo `audio_to_tokens`: [B, K, 16, C] to [B, C, T]."""
    batch, _, _, channels = tokens.shape
    return tokens.reshape(batch, -1, channels).transpose(1, 2)


def video_positions() -> Tensor:
    """Time (1/25 s from the chunk's start, token midpoint), row and column of a chunk's video tokens.

    Returns float64 [64, 3].
    """
    latent_time = (torch.arange(VIDEO_LATENTS_PER_CHUNK, dtype=torch.float64) + 0.5) * (
        FRAMES_PER_LATENT / FPS * POSITIONS_PER_SECOND
    )
    cell = torch.arange(TOKEN_GRID, dtype=torch.float64)
    return torch.cartesian_prod(latent_time, cell, cell)


def still_positions() -> Tensor:
    """Positions of a still picture's tokens: time 0, row, column. Returns float64 [16, 3]."""
    positions = video_positions()[:TOKENS_PER_VIDEO_LATENT].clone()
    positions[:, 0] = 0
    return positions


def audio_positions(latents: int = AUDIO_TOKENS_PER_CHUNK) -> Tensor:
    """Time, 0, 0 of consecutive audio tokens from the chunk's start. Returns float64 [latents, 3]."""
    positions = torch.zeros(latents, 3, dtype=torch.float64)
    step = POSITIONS_PER_SECOND / AUDIO_LATENTS_PER_SECOND
    positions[:, 0] = (torch.arange(latents, dtype=torch.float64) + 0.5) * step
    return positions


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
