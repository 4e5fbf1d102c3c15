"""What a face does, read off one picture: the encoder of the motion codec.

Shape letters: B batch, S picture size, C latent channels, W width, K code width.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MotionCodecConfig
from .warping import has_channels_last, identity_places

STEM = 8
"""Pictures enter at 1/8 of their size."""
FOUND, LOOKS = 64, 8
"""Points of a face that the encoder looks for, and numbers that it reads at each."""
SHARPNESS = 8.0
"""Of the maps that find the points: they are to be narrow from the start."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, modulated by a code where there is one; starts as the identity."""

    def __init__(self, width: int, code_width: int = 0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulate = nn.Linear(code_width, 2 * width) if code_width else None
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """x [B, W, H, H], code [B, K]."""
        hidden = self.conv1(F.silu(self.norm(x)))
        if self.modulate is not None:
            shift, scale = self.modulate(code).chunk(2, 1)
            hidden = _modulated(hidden, shift, 1 + scale)
        return x + self.conv2(F.silu(hidden))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, W, H, H] times scale and plus shift [B, W]."""
    if not has_channels_last(x):
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])
    # Rows of numbers that lie beside each other, and not one channel after the other: a sixth of the time.
    shift, scale = (part[:, None].repeat(1, 1, x.shape[-1]) for part in (shift, scale))
    rows = x.permute(0, 2, 3, 1)
    return torch.addcmul(shift, rows.flatten(2), scale).view_as(rows).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Halve the picture; the shortcut averages channels of the unshuffled input (DC-AE)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)
        self.groups, self.width_out = width_in * 4 // width_out, width_out

    def forward(self, x: Tensor) -> Tensor:
        """x [B, W, H, H] to [B, W', H / 2, H / 2]."""
        shortcut = F.pixel_unshuffle(x, 2)[:, : self.groups * self.width_out]
        return self.conv(x) + shortcut.unflatten(1, (self.width_out, self.groups)).mean(2)


class MotionEncoder(nn.Module):
    """Frames [B, 3, S, S] to standardised latents [B, C].

    Attention maps look for points of the face; where they are, and the features found there, tell the
    motion. The maps are taught the corpus's landmarks.
    """

    def __init__(self, config: MotionCodecConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        stages: list[nn.Module] = [ResidualBlock(widths[0])]
        for width_in, width_out in itertools.pairwise(widths):
            stages += [Downsample(width_in, width_out), ResidualBlock(width_out)]
        self.down = nn.Sequential(*stages)
        self.up = nn.Conv2d(widths[-1], widths[-2] * 4, 1)
        self.side = nn.Conv2d(widths[-2], widths[-2], 1)
        self.fine = ResidualBlock(widths[-2])
        self.norm = nn.GroupNorm(8, widths[-2])
        self.where = nn.Conv2d(widths[-2], FOUND, 1)
        self.look = nn.Conv2d(widths[-2], LOOKS, 1)
        self.points = nn.Linear(FOUND * (2 + LOOKS), 2 * config.code_width)
        self.hidden = nn.Linear(2 * config.code_width, config.code_width)
        self.out = nn.Linear(config.code_width, config.channels)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, C] and where the points are [B, 64, 2], x and y in -1..1."""
        hidden = self.down[:-2](self.stem(F.pixel_unshuffle(frames, STEM)))
        coarse = self.down[-2:](hidden)
        # Unnormalised, what is read at the points grows until the layers after it are dead.
        hidden = self.norm(self.fine(self.side(hidden) + F.pixel_shuffle(self.up(coarse), 2)))
        maps = (SHARPNESS * self.where(hidden).float()).flatten(2).softmax(2)
        places = maps @ identity_places(hidden).flatten(1, 2)[0]
        looks = maps.to(hidden.dtype) @ self.look(hidden).flatten(2).transpose(1, 2)
        found = torch.cat([places.to(looks.dtype), looks], 2).flatten(1)
        return self.out(F.silu(self.hidden(F.silu(self.points(found))))), places
