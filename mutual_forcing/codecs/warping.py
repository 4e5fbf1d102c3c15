"""Flows, and the square of eyes and mouth: where pixels of one picture lie in another.

Coordinates run from -1 to 1 from edge to edge of a picture, x to the right, y down; flows in halves of it.

Shape letters: B batch, W channels, H picture size.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FINE = 2
"""The detail is painted as for a picture of so many times the size."""
DETAIL_X, DETAIL_Y, DETAIL_SIDE = 0.25, 0.3125, 0.5
"""Left, top and side of the detail's square in fractions of the picture: it holds brows, eyes, mouth and
chin of a face that lies where faces.crop_of puts it.
"""
DETAIL_EDGE = 0.125
"""Share of the detail's side over which it fades into the rest."""

Numbers = TypeVar("Numbers", Tensor, np.ndarray)


def identity_places(like: Tensor) -> Tensor:
    """x and y of every pixel of [B, W, H, H], -1..1 from edge to edge: [1, H, H, 2]."""
    line = axis(like.shape[-1], like.device)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]


def detail_places(like: Tensor) -> Tensor:
    """x and y of every pixel of the detail's square, drawn as large as [B, W, H, H]: [1, H, H, 2]."""
    line = (axis(like.shape[-1], like.device) + 1) / 2
    x, y = ((start + DETAIL_SIDE * line) * 2 - 1 for start in (DETAIL_X, DETAIL_Y))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]


def detail_window(like: Tensor) -> Tensor:
    """1 inside the detail's square, smoothly 0 at its rim, drawn as large as [B, W, H, H]: [1, 1, H, H]."""
    line = axis(like.shape[-1], like.device).abs()
    line = smooth(((1 - line) / (2 * DETAIL_EDGE)).clamp(0, 1))
    return (line[:, None] * line)[None, None]


def smooth(x: Numbers) -> Numbers:
    """From 0 to 1 as x does, but level at both ends."""
    return x * x * (3 - 2 * x)


def cut_detail(x: Tensor, margin: int = 0) -> Tensor:
    """The detail's square of [B, W, H, H], and `margin` pixels around it."""
    size = x.shape[-1]
    left, top, side = (round(share * size) for share in (DETAIL_X, DETAIL_Y, DETAIL_SIDE))
    rows, columns = (slice(s - margin, s + side + margin) for s in (top, left))
    return x[..., rows, columns]


def axis(size: int, device: torch.device) -> Tensor:
    """Where the middles of `size` pixels lie in -1..1, [size]."""
    return (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1


def sample(picture: Tensor, places: Tensor) -> Tensor:
    """`picture` [B, W, H, H] read at places [B, H', W', 2] (x, y in -1..1); edges go on."""
    height, width = picture.shape[-2:]
    edge = torch.tensor([1 - 1 / width, 1 - 1 / height], device=places.device)
    # In half precision places would be off by a quarter of a pixel. Between the middles of the outermost
    # pixels nothing is read beyond them: as padding by "border" does, which Apple's GPUs lack.
    inside = places.float().clamp(-edge, edge)
    return F.grid_sample(picture.float(), inside, align_corners=False).to(picture.dtype)


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """`picture` [B, W, H, H] read at every cell's own place plus flow [B, 2, H', H']; edges go on."""
    return sample(picture, identity_places(flow) + flow.float().movedim(1, 3))


def enlarge(flow: Tensor, times: int) -> Tensor:
    """So many times the resolution, smoothly."""
    return F.interpolate(flow, scale_factor=times, mode="bilinear", align_corners=False)


def enlarge_apart(x: Tensor) -> Tensor:
    """`enlarge` of [B, W, H, H] for FINE times, but the pixels of a cell stay beside each other, [B, W, 4, H,
    H]: in a quarter of the time of putting them in their places and out again.
    """

    def halves(x: Tensor, side: int) -> tuple[Tensor, Tensor]:
        first, last = x.narrow(side, 0, 1), x.narrow(side, -1, 1)
        before = torch.cat([first, x.narrow(side, 0, x.shape[side] - 1)], side)
        after = torch.cat([x.narrow(side, 1, x.shape[side] - 1), last], side)
        return torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)

    return torch.stack([half for row in halves(x, -2) for half in halves(row, -1)], 2)


def put_together(x: Tensor) -> Tensor:
    """Pixels of cells [B, W, FINE**2, H, H] in their places, [B, W, FINE * H, FINE * H]: F.pixel_shuffle in
    a quarter of its time.
    """
    cells = x.unflatten(2, (FINE, FINE)).permute(0, 1, 4, 2, 5, 3)
    return cells.reshape(*x.shape[:2], FINE * x.shape[-2], FINE * x.shape[-1])


def has_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel of [B, W, H, H] lie beside each other, not the pixels of a channel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def matching(x: Tensor, other: Tensor) -> Tensor:
    """`x` in the type and layout of `other`: what is computed of two kinds takes several times as long."""
    layout = torch.channels_last if has_channels_last(other) else torch.contiguous_format
    return x.to(other.dtype, memory_format=layout)


def to_detail(points: Tensor) -> Tensor:
    """Points [..., 2] of the picture in coordinates of the detail's square."""
    corner = points.new_tensor([DETAIL_X, DETAIL_Y])
    return ((points + 1) / 2 - corner) / DETAIL_SIDE * 2 - 1
