"""Films to latents and back by a small convolutional autoencoder, four frames at a time: 16 x 16 pixels each.

The geometry of Wan's (codecs/wan.py) for a CPU: frames are stacked as channels, so that convolutions have two
dimensions. Every latent is by itself, nothing is remembered between two of them, and a picture is four frames
that stand still.

Shape letters: B batch, C numbers of a latent, T latent frames, h and w a latent frame's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..chunks import FRAMES_PER_CHUNK
from ..codec_config import STACK_FRAMES, STACK_SIDE, StackCodecConfig
from ..config import FPS, TokenGrid
from .whole_frames import LatentPicture, WholeFrameCodec

_FOLD = 2
"""Pixels on each side that are folded into channels before the first convolution."""
_GROUPS = 8


class StackCodec(WholeFrameCodec):
    """A protocol.PixelCodec with weights of its own, which objectives/pixel_codec.py teaches."""

    config: StackCodecConfig

    def __init__(self, config: StackCodecConfig) -> None:
        """Random weights; latents are as they come until `set_statistics`."""
        super().__init__()
        self.config = config
        widths, stacked = config.widths, 3 * STACK_FRAMES * _FOLD**2
        down: list[nn.Module] = [nn.PixelUnshuffle(_FOLD), _convolution(stacked, widths[0])]
        for wide, wider in pairwise(widths):
            down += [_Residual(wide), nn.Conv2d(wide, wider, 4, stride=2, padding=1)]
        down += [_Residual(widths[-1]), nn.Conv2d(widths[-1], config.latent_channels, 1)]
        up: list[nn.Module] = [_convolution(config.latent_channels, widths[-1])]
        for wider, wide in pairwise(widths[::-1]):
            up += [_Residual(wider), nn.Conv2d(wider, 4 * wide, 1), nn.PixelShuffle(2)]
        up += [_Residual(widths[0]), _convolution(widths[0], stacked), nn.PixelShuffle(_FOLD)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        numbers = config.latent_channels
        self.register_statistics(torch.zeros(numbers), torch.ones(numbers))

    @property
    def grid(self) -> TokenGrid:
        """Four latent frames a chunk, a token for each of their places."""
        height, width = self.config.height // STACK_SIDE, self.config.width // STACK_SIDE
        return TokenGrid(FRAMES_PER_CHUNK // STACK_FRAMES, height, width, FPS / STACK_FRAMES)

    @property
    def channels(self) -> int:
        """Numbers of a latent at one place."""
        return self.config.latent_channels

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, 4 T, H, W] within -1..1 to standardised latents [B, C, T, h, w].

        Raises ValueError for frames of another size, and for a number of them that is no multiple of 4.
        """
        batch, _, count, height, width = frames.shape
        self.check_size(height, width)
        if count % STACK_FRAMES:
            raise ValueError(f"{count} frames are no whole number of latents (4 each).")
        stacks = frames.unflatten(2, (-1, STACK_FRAMES)).permute(0, 2, 3, 1, 4, 5)
        raw = self.encoder(_nhwc(stacks.flatten(2, 3).flatten(0, 1)))
        raw = raw.unflatten(0, (batch, -1)).transpose(1, 2)
        return (raw - self.latent_mean) / self.latent_std

    def encode_reference(self, picture: Tensor) -> LatentPicture:
        """A picture [B, 3, H, W] within -1..1 as the latent of a film that stands still."""
        still = picture[:, :, None].expand(-1, -1, STACK_FRAMES, -1, -1)
        return LatentPicture(self.encode(still)[:, :, 0])

    def begin(self, seed: int) -> None:
        """Nothing is remembered."""
        return

    def decode(
        self, latents: Tensor, reference: Any = None, state: Any = None
    ) -> tuple[Tensor, None]:
        """Standardised latents [B, C, T, h, w] to frames [B, 3, 4 T, H, W] within -1..1; neither the
        reference nor a state is needed.
        """
        size = self.grid.height, self.grid.width
        latents = latents.reshape(*latents.shape[:3], *size)
        raw = (latents * self.latent_std + self.latent_mean).transpose(1, 2)
        made = self.decoder(_nhwc(raw.flatten(0, 1))).unflatten(1, (STACK_FRAMES, 3))
        made = made.unflatten(0, (len(latents), -1)).flatten(1, 2).transpose(1, 2)
        # Unbounded while it learns: what is clamped would learn nothing more.
        return made if self.training else made.clamp(-1, 1), None


class _Residual(nn.Module):
    """Two convolutions beside what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: Sequence[nn.Module] = [
            layer
            for _ in range(2)
            for layer in (nn.GroupNorm(_GROUPS, width), nn.SiLU(), _convolution(width, width))
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _convolution(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1)


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
