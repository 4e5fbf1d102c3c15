"""Small layers shared by the networks: rotary positions, sinusoidal features, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import BranchConfig

TIME_BASE = 256.0
"""Longest rotary period in time is 2 pi * 256 / 25 s, about a minute."""
TIME_SHARE = 0.42
"""Share of a head's pairs that time rotates; half of the others turn with y, half with x."""
SPACE_BASE = 64.0
"""Longest rotary period in space is 2 pi * 64 tokens."""


def rotary_frequencies(head_dim: int) -> Tensor:
    """Angular frequency of each pair of a head's dimensions per unit of time, y and x: float64
    [3, head_dim / 2], one of the three nonzero.
    """
    pairs = head_dim // 2
    counts = [math.ceil(pairs * TIME_SHARE)]
    counts += [(pairs - counts[0] + 1) // 2, (pairs - counts[0]) // 2]
    table = torch.zeros(3, pairs, dtype=torch.float64)
    first = 0
    for axis, (count, base) in enumerate(
        zip(counts, (TIME_BASE, SPACE_BASE, SPACE_BASE), strict=True)
    ):
        exponent = torch.arange(count, dtype=torch.float64) / max(1, count)
        table[axis, first : first + count] = base**-exponent
        first += count
    return table


def rotary_table(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Cosines and sines, float32 [..., N, head_dim / 2, 2], of positions [..., N, 3] (time, y, x).

    Angles are computed in float64.
    """
    angles = positions.double() @ frequencies
    return torch.stack([angles.cos(), angles.sin()], -1).float()


def at_time(times: Tensor) -> Tensor:
    """Positions [..., 3] of what has a time [...] and no place."""
    return torch.nn.functional.pad(times[..., None], (0, 2))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x [..., N, H, D] by tables broadcastable to [..., N, D / 2, 2].

    One complex product: on a CPU several times faster than sines and cosines apart.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    rotated = pairs * torch.view_as_complex(table.unsqueeze(-3))
    return torch.view_as_real(rotated).flatten(-2).to(x.dtype)


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

    With the gains of a Wiener filter this is the best linear estimate of a velocity from noisy tokens: what
    changes slowly stands out of the noise. Cosines nearly decorrelate a chunk of which nothing else is
    known, sines one that `continues` a known latent frame: they vanish where that frame is.
    """

    waves: Tensor

    def __init__(self, width: int, branch: BranchConfig, continues: bool = False) -> None:
        super().__init__()
        self.frames = branch.grid.frames
        self.gain = nn.Linear(width, self.frames * branch.token_dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)
        transform = sine_transform if continues else cosine_transform
        self.register_buffer("waves", transform(self.frames), persistent=False)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Features of the noise level [B, K, W] and tokens [B, K, N, D] to [B, K, N, D]."""
        gain = self.gain(features).unflatten(-1, (self.frames, -1)).float()
        with torch.autocast(tokens.device.type, enabled=False):
            # Every place of the latent frame has a course in time of its own.
            tracks = tokens.float().unflatten(2, (self.frames, -1))
            gain = gain[:, :, :, None].expand_as(tracks).flatten(3)
            spectrum = self.waves @ tracks.flatten(3)
            scaled = (self.waves.T @ (gain * spectrum)).view_as(tracks)
            return scaled.flatten(2, 3).to(tokens.dtype)


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
