"""Wan's rotary positions for chunks: 44 of 128 dimensions of a head turn with time, 42 with y and 42 with x.

One unit of time is one latent frame of video, as in Wan; sound lies where it is heard, in the same unit.
References are timeless: they lie just before the oldest chunk that is seen, on the clock of the chunk that
reads them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import WanConfig

THETA = 10_000.0


class WanRotary:
    """Tables of cosines and sines, float32 [..., D / 2, 2] as layers.rotate takes them."""

    def __init__(self, config: WanConfig) -> None:
        self.grids, self.window = config.grids, config.window
        pairs = config.head_dim // 2
        space = config.head_dim // 6
        self.frequencies = [_frequencies(count) for count in (pairs - 2 * space, space, space)]
        self.rate = config.video.grid.rate

    def chunks(self, name: str, first: int, count: int, device: torch.device) -> Tensor:
        """Of `count` chunks from number `first` on: [count, N, D / 2, 2]."""
        frames = self.grids[name].frames
        table = self._frames(name, _range(first * frames, (first + count) * frames), device)
        return table.unflatten(0, (count, -1))

    def references(self, name: str, tokens: int, device: torch.device) -> Tensor:
        """Of so many tokens that end where the oldest chunk that chunk 0 sees begins: [tokens, D / 2, 2]."""
        grid = self.grids[name]
        end = -self.window * grid.frames
        frames = _range(end - tokens // grid.frame_tokens, end)
        return self._frames(name, frames, device)

    def _frames(self, name: str, frames: Tensor, device: torch.device) -> Tensor:
        """Of the tokens of latent frames by their numbers [F]: [F * H * W, D / 2, 2]."""
        grid = self.grids[name]
        # Angles of a long stream are large: float64. Only those of the F times change from chunk to chunk.
        times = (frames + 0.5) / grid.rate * self.rate - 0.5
        places = times, _range(0, grid.height), _range(0, grid.width)
        angles = [p[:, None] * f for p, f in zip(places, self.frequencies, strict=True)]
        tables = [torch.stack([a.cos(), a.sin()], -1).float().to(device) for a in angles]
        shape = (len(frames), grid.height, grid.width)
        time, y, x = tables
        whole = torch.cat(
            [
                time[:, None, None].expand(*shape, -1, -1),
                y[None, :, None].expand(*shape, -1, -1),
                x[None, None].expand(*shape, -1, -1),
            ],
            3,
        )
        return whole.flatten(0, 2)


def _range(first: int, end: int) -> Tensor:
    # On the CPU also where a model is built on another device.
    return torch.arange(first, end, dtype=torch.float64, device="cpu")


def _frequencies(count: int) -> Tensor:
    """Angles per unit of `count` pairs, the fastest first."""
    return THETA ** -(_range(0, count) / max(1, count))
