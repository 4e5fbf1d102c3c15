"""Small layers shared by the networks: rotary positions, sinusoidal features, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import TOKENS_PER_CHUNK

TIME_BASE = 256.0
"""Longest rotary period in time is 2 pi * 256 / 25 s, about a minute."""
TIME_SHARE = 0.42
"""Share of a head's pairs that time rotates; the others compare content alone."""


def rotary_frequencies(head_dim: int) -> Tensor:
    """Angular frequency of each pair of a head's dimensions, float64 [head_dim / 2]; 0 = not rotated."""
    pairs = head_dim // 2
    rotated = math.ceil(pairs * TIME_SHARE)
    exponent = torch.arange(rotated, dtype=torch.float64) / rotated
    return torch.cat([TIME_BASE**-exponent, exponent.new_zeros(pairs - rotated)])


def rotary_table(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and sines, float32 [..., N, head_dim / 2, 2], of times [..., N].

    Angles are computed in float64.
    """
    angles = positions.double()[..., None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], -1).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x [..., N, H, D] by tables broadcastable to [..., N, D / 2, 2].

    One complex product: on a CPU several times faster than sines and cosines apart.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(table.unsqueeze(-3))
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def sinusoidal(values: Tensor, width: int) -> Tensor:
    """Features [..., width] of values within 0..1."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(1000.0) * torch.arange(half, device=values.device, dtype=torch.float32) / half
    )
    angles = values.float()[..., None] * 1000.0 * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class HeadNorm(nn.RMSNorm):
    """RMS norm of queries and keys, in fp32 also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class NoiseEmbedding(nn.Module):
    """MLP of sinusoidal features of a noise level or an interval, values within 0..1."""

    FEATURES = 128

    def __init__(self, width: int, zero: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(self.FEATURES, width)
        self.second = nn.Linear(width, width)
        if zero:
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

    def forward(self, values: Tensor) -> Tensor:
        return self.second(F.silu(self.first(sinusoidal(values, self.FEATURES))))


class FeedForward(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, width: int, multiple: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width * multiple)
        self.down = nn.Linear(width * multiple, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class SpectralGains(nn.Module):
    """Tokens of a chunk scaled by a gain per noise level, channel and frequency in time; starts as nothing.

    With the gains of a Wiener filter this is the best linear guess of a velocity from noisy tokens: what
    changes slowly stands out of the noise. Cosines nearly decorrelate a chunk of which nothing else is
    known, sines one that `continues` a known token: they vanish where that token is.
    """

    def __init__(self, width: int, token_dim: int, continues: bool = False) -> None:
        super().__init__()
        self.gain = nn.Linear(width, TOKENS_PER_CHUNK * token_dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)
        transform = sine_transform if continues else cosine_transform
        self.register_buffer("waves", transform(TOKENS_PER_CHUNK), persistent=False)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Features of the noise level [B, K, W] and tokens [B, K, 16, D] to [B, K, 16, D]."""
        gain = self.gain(features).unflatten(-1, (TOKENS_PER_CHUNK, -1)).float()
        with torch.autocast(tokens.device.type, enabled=False):
            spectrum = self.waves @ tokens.float()
            return (self.waves.T @ (gain * spectrum)).to(tokens.dtype)


def cosine_transform(size: int) -> Tensor:
    """The orthonormal DCT-II as a matrix [size, size]: rows are cosines, the slowest first."""
    place = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * place[:, None] * (place[None] + 0.5))
    rows[0] /= math.sqrt(2)
    return (rows * math.sqrt(2 / size)).float()


def sine_transform(size: int) -> Tensor:
    """Orthonormal sines [size, size] that are zero one place before the first, the slowest first: what
    decorrelates a random walk from there (the eigenvectors of the covariance min(i, j)).
    """
    rate = 2 * torch.arange(size, dtype=torch.float64)[:, None] + 1
    place = torch.arange(1, size + 1, dtype=torch.float64)[None]
    span = 2 * size + 1
    return (torch.sin(rate * math.pi * place / span) * 2 / math.sqrt(span)).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, K, N, W] * (1 + scale) + shift, with shift and scale [B, K, W]."""
    return x * (1 + scale[:, :, None]) + shift[:, :, None]
