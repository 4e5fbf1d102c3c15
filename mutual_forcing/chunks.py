"""All arithmetic of frames, latents, tokens, samples and seconds. Nothing else computes these.

A chunk is 0.64 s: 16 frames of film and 15,360 samples of sound. How many tokens a branch makes of it, and
where they lie in time and in the picture, its grid says (config.TokenGrid). Shape letters: B batch, K chunks,
N tokens of a chunk, C channels of a latent, T latent frames in time, H and W a latent frame's height and
width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .config import FPS, SAMPLE_RATE, TokenGrid

FRAMES_PER_CHUNK = 16
"""Of film."""
CHUNK_SECONDS = FRAMES_PER_CHUNK / FPS
SAMPLES_PER_CHUNK = FRAMES_PER_CHUNK * SAMPLE_RATE // FPS

POSITIONS_PER_SECOND = 25.0
"""One unit of rotary time is 1/25 s, for every modality."""


def chunks_for_seconds(seconds: float) -> int:
    """Return the least number of chunks, at least one, that lasts `seconds`."""
    return max(1, math.ceil(seconds / CHUNK_SECONDS - 1e-6))


def chunks_for_samples(samples: int) -> int:
    """Return the least number of chunks, at least one, that holds `samples`."""
    return max(1, -(-samples // SAMPLES_PER_CHUNK))


def latents_to_tokens(latents: Tensor, grid: TokenGrid) -> Tensor:
    """Split latents [B, C, T] or [B, C, T, H, W] into tokens of whole chunks [B, K, N, C].

    Raises ValueError unless T is a whole number of chunks and H x W the grid's.
    """
    if latents.ndim == 3:
        latents = latents[..., None, None]
    if latents.shape[3:] != (grid.height, grid.width):
        raise ValueError(f"Latents of {tuple(latents.shape[3:])} do not lie on {grid}.")
    if latents.shape[2] % grid.frames:
        raise ValueError(f"{latents.shape[2]} latents are no whole number of chunks.")
    return latents.permute(0, 2, 3, 4, 1).flatten(1, 3).unflatten(1, (-1, grid.tokens))


def tokens_to_latents(tokens: Tensor, grid: TokenGrid) -> Tensor:
    """Undo `latents_to_tokens`; on a grid of 1 x 1 the result has no H and W."""
    latents = tokens.flatten(1, 2).unflatten(1, (-1, grid.height, grid.width))
    latents = latents.permute(0, 4, 1, 2, 3)
    return latents[..., 0, 0] if grid.frame_tokens == 1 else latents


def last_frames(tokens: Tensor, grid: TokenGrid, count: int = 1) -> Tensor:
    """The last latent frames of each chunk: [B, K, N, C] to [B, K, count * H * W, C]."""
    return tokens[:, :, -count * grid.frame_tokens :]


def repeat_static(frame: Tensor, grid: TokenGrid) -> Tensor:
    """One latent frame [..., H * W, C] for the length of a chunk: [..., N, C]."""
    whole = frame.unsqueeze(-3).expand(*frame.shape[:-2], grid.frames, -1, -1)
    return whole.flatten(-3, -2)


def token_spans(grid: TokenGrid) -> Tensor:
    """Start and end of each token of a chunk, seconds from its start: float32 [2, N]."""
    edges = torch.arange(grid.frames + 1, dtype=torch.float32) / grid.rate
    return torch.stack([edges[:-1], edges[1:]]).repeat_interleave(grid.frame_tokens, 1)


def token_positions(grid: TokenGrid, frames: int | None = None) -> Tensor:
    """Rotary positions of consecutive tokens from the chunk's start on, of `frames` latent frames (default:
    a chunk): time of the middle x 25, y, x; float64 [frames * H * W, 3].
    """
    count = grid.frames if frames is None else frames
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) / grid.rate
    axes = (
        middle * POSITIONS_PER_SECOND,
        torch.arange(grid.height, dtype=torch.float64),
        torch.arange(grid.width, dtype=torch.float64),
    )
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)


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
