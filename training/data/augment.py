"""Portraits turned, shifted, of other proportions, and in other colours and light."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def random_turn(rng: np.random.Generator) -> np.ndarray:
    """A slight turn, shift and other proportions, [2, 3], on coordinates in -1..1: no detector is exact, and
    people (drawn ones above all) have longer and wider faces than the renderer's.
    """
    angle, lean = rng.normal(0, 0.07), rng.normal(0, 0.05)
    size = 1 + rng.normal(0, 0.05)
    wide, high = np.exp(rng.normal(0, 0.08, 2)) * size
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[wide, lean], [0, high]])
    return np.concatenate([turn, rng.normal(0, 0.04, (2, 1))], 1)


def turn_points(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Points [..., 2] in fractions of the picture to -1..1, turned."""
    return ((points * 2 - 1) @ turn[:, :2].T + turn[:, 2]).astype(np.float32)


def turn_picture(
    picture: np.ndarray, turn: np.ndarray, side: int, between: int = cv2.INTER_CUBIC
) -> np.ndarray:
    """uint8 [H, H, ...] turned, as [side, side, ...], read `between` pixels; at the border it goes on."""
    if len(picture) != side:
        rule = cv2.INTER_NEAREST if between == cv2.INTER_NEAREST else cv2.INTER_AREA
        picture = cv2.resize(picture, (side, side), interpolation=rule)
    if np.array_equal(turn, np.eye(2, 3)):
        return picture
    # From -1..1 to pixels and back: pixel p lies at (2p + 1) / side - 1.
    half, middle = side / 2, (side - 1) / 2
    linear = turn[:, :2]
    shift = half * turn[:, 2] + middle - linear @ np.full(2, middle)
    matrix = np.concatenate([linear, shift[:, None]], 1)
    return cv2.warpAffine(
        picture, matrix, (side, side), flags=between, borderMode=cv2.BORDER_REPLICATE
    )


def repaint(
    pictures: Sequence[Tensor], scales: Sequence[int], generator: torch.Generator
) -> list[Tensor]:
    """Other colours, light, contrast and sharpness for pictures [B, 3, H, H], for all of a row the same: more
    looks than the renderer has, so that the animator learns to move whatever it is given. scales: how large
    each is drawn.
    """
    count, device = len(pictures[0]), pictures[0].device

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    gain, bias = 0.7 + 0.5 * draw(count, 3, 1, 1), 0.4 * draw(count, 3, 1, 1) - 0.2
    plain = draw(count, 1, 1, 1) < 0.4
    gain, bias = torch.where(plain, 1.0, gain), torch.where(plain, 0.0, bias)
    order = torch.randperm(3, generator=generator, device=device)
    if draw(1).item() < 0.8:
        order = torch.arange(3, device=device)
    grey = (draw(count) < 0.12).nonzero()[:, 0]
    share = draw(count, 1, 1, 1)
    soft = (draw(count) < 0.3).nonzero()[:, 0]
    # Light from one side, and film that darkens or brightens what lies in the middle.
    slope = torch.where(draw(count, 1, 1, 1) < 0.5, 0.0, draw(count, 2, 1, 1) - 0.5)
    bent = torch.where(draw(count, 1, 1, 1) < 0.5, 0.0, 0.8 * draw(count, 1, 1, 1) - 0.4)

    def change(x: Tensor, scale: int) -> Tensor:
        x = torch.addcmul(bias, x[:, order], gain).clamp_(-1, 1)
        line = (torch.arange(x.shape[-1], device=device) * 2 + 1) / x.shape[-1] - 1
        light = 1 + slope[:, :1] * line + slope[:, 1:] * line[:, None]
        x = torch.addcmul(bent, x * x, -bent).add_((x + 1) * light - 1).clamp_(-1, 1)
        x[grey] = x[grey].mean(1, keepdim=True)
        if len(soft):
            small = F.avg_pool2d(x[soft], 2 * scale)
            small = F.interpolate(small, scale_factor=2 * scale, mode="bilinear")
            x[soft] = torch.lerp(x[soft], small, share[soft])
        return x

    return [change(picture, scale) for picture, scale in zip(pictures, scales, strict=True)]
