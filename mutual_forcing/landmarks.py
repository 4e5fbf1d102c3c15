"""478 points of a face: brows, lids, irises, nose, lips and outline, in MediaPipe's order.

The network is MediaPipe's "Face Mesh V2" (953 469 numbers, Apache-2.0, see NOTICE), run by PyTorch on a
square around the face. The square is that of MediaPipe when it follows a face through a film: one and a half
times as wide as the points that were found before, turned so that the eyes lie level. Here the picture stands
still, and the first square is made of the eyes and the mouth that `faces.find_faces` has found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from .faces import MOUTH_BELOW_EYES

SIDE = 256
"""Pixels a side of the square that the network sees."""

_WEIGHTS = Path(__file__).with_name("assets") / "landmarks.safetensors"
_BLOCKS = 34
_FOUND = 0.5
"""The score of a face, at least, as in MediaPipe. Measured: of the faces that YuNet finds, 59 of 65 in
photographs, 27 of 29 in paintings, 42 of 53 drawn ones and all 12 bundled ones lie above, and 1 of 363 places
without a face. Other first squares find more, but most of that is wrong.
"""
_START = 3.4
"""Sides of the first square in eye distances; those of MediaPipe's own detector are 3.45 wide."""
_PASSES = 3
"""How often the network looks, each time at the square around the points before. Then they hardly move."""
_AROUND = 1.5
"""Sides of the next square in sides of the points' box."""
_EYES = (33, 263)
"""The outer corners of the eyes on the picture's left and right, between which the face is level."""


@dataclass(frozen=True)
class Landmarks:
    """One face. points: float32 [478, 2], x and y in pixels of the picture; score: 0..1 that it is a face.

    The first pixel reaches from 0 to 1, its middle lies at 0.5, as in `faces`. The points that MediaPipe
    gives for small faces lie up to half a pixel further up and left.
    """

    points: np.ndarray
    score: float


def find_landmarks(
    picture: np.ndarray,
    eyes: tuple[tuple[float, float], tuple[float, float]],
    mouth: tuple[float, float],
) -> Landmarks | None:
    """Return the points of the face in uint8 RGB [H, W, 3] whose eyes and mouth lie there, or None.

    eyes: (x, y) in pixels of the one on the picture's left and of the other; mouth: its middle; all as in
    `faces.Face`. None: the network sees no face there, as in a fifth of drawings. Raises ValueError when the
    picture has another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError("The picture must be an array of 8-bit RGB pixels [H, W, 3].")
    middle = np.mean(eyes, axis=0)
    angle = math.atan2(eyes[1][1] - eyes[0][1], eyes[1][0] - eyes[0][0])
    unit = max(math.dist(*eyes), math.dist(middle, mouth) / MOUTH_BELOW_EYES, 1.0)
    square = _Square((middle + mouth) / 2, _START * unit, angle)
    points, scores = np.zeros((0, 2)), []
    for _ in range(_PASSES):
        points, score = square.look(picture)
        scores.append(score)
        square = _Square.around(points)
    score = min(scores[-2:])  # where there is no face, one look may be mistaken
    return Landmarks(points.astype(np.float32), score) if score >= _FOUND else None


def follow_landmarks(picture: np.ndarray, before: Landmarks) -> Landmarks | None:
    """Return the points in uint8 RGB [H, W, 3], the next frame of a film, by one look where they were before.

    None if no face is seen there.
    """
    points, score = _Square.around(before.points).look(picture)
    return Landmarks(points.astype(np.float32), score) if score >= _FOUND else None


def follow_film(frames: Iterable[np.ndarray], first: Landmarks) -> Iterator[Landmarks]:
    """Yield the points in every frame, uint8 RGB [H, W, 3], of a film after the one with `first`.

    A frame in which no face is seen has the points of the one before.
    """
    for frame in frames:
        first = follow_landmarks(frame, first) or first
        yield first


@dataclass(frozen=True)
class _Square:
    """A turned square of a picture: middle [2] and side in pixels, angle in radians, clockwise."""

    middle: np.ndarray
    side: float
    angle: float

    @staticmethod
    def around(points: np.ndarray) -> _Square:
        """The square in which the network looks again for the face with these points [478, 2].

        MediaPipe measures the points' box along the picture's sides, here it is turned as the face is.
        """
        (ax, ay), (bx, by) = points[list(_EYES)]
        angle = math.atan2(by - ay, bx - ax)
        level = points @ _turn(angle)
        low, high = level.min(0), level.max(0)
        return _Square(_turn(angle) @ (low + high) / 2, _AROUND * float((high - low).max()), angle)

    def look(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        """Return what the network sees there: points [478, 2] in pixels of the picture, and the score."""
        points, score = landmarks_of_squares(self.cut(picture))
        return self.out(points[0].double().numpy()), float(score)

    def out(self, points: np.ndarray) -> np.ndarray:
        """Return points [N, 2] in pixels of the network's square in pixels of the picture."""
        return (points - SIDE / 2) @ _turn(self.angle).T * (self.side / SIDE) + self.middle

    def cut(self, picture: np.ndarray) -> Tensor:
        """Return [1, 3, 256, 256] of 0..1; beyond the picture its border goes on, as in MediaPipe."""
        size = np.array(picture.shape[1::-1])
        reach = self.out(np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]]))
        low = np.clip(np.floor(reach.min(0)) - 1, 0, size - 1).astype(int)
        high = np.clip(np.ceil(reach.max(0)) + 1, low + 1, size).astype(int)
        part = torch.tensor(picture[low[1] : high[1], low[0] : high[0]])
        part = part.permute(2, 0, 1)[None] / 255
        factor = max(1, round(self.side / SIDE))
        part = F.avg_pool2d(part, factor, ceil_mode=True)  # bilinear alone would skip thin lines
        places = (self.out(_centres()) - low) / factor / part.shape[:1:-1] * 2 - 1
        grid = torch.from_numpy(places.astype(np.float32)).reshape(1, SIDE, SIDE, 2)
        return F.grid_sample(part, grid, padding_mode="border", align_corners=False)


@lru_cache(maxsize=1)
def _centres() -> np.ndarray:
    """Return the middles of the square's pixels [256 x 256, 2], row by row."""
    at = np.arange(SIDE) + 0.5
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def _turn(angle: float) -> np.ndarray:
    """Return [2, 2], which turns points clockwise."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


# --- the network ---


@torch.no_grad()
def landmarks_of_squares(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Return points [B, 478, 2] (x, y in pixels of the square) and scores [B], 0..1, that there is a face.

    squares: RGB [B, 3, 256, 256] of 0..1 on any device, the face upright and two thirds of the square high.
    Points come even where no face is seen: mind the score.
    """
    # In bf16 points are up to 2 pixels off.
    with torch.autocast(squares.device.type, enabled=False):
        return _network(squares, _weights(squares.device))


def _network(squares: Tensor, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    x = F.pad(squares.float(), (0, 1, 0, 1)).contiguous(memory_format=torch.channels_last)
    x = F.conv2d(x, weights["stem.weight"], weights["stem.bias"], stride=2)
    x = F.prelu(x, weights["stem.slope"])
    for block in range(_BLOCKS):
        x = _block(x, {part: weights[f"{block}.{part}"] for part in _PARTS})
    points = F.conv2d(x, weights["points.weight"], weights["points.bias"])
    score = F.conv2d(x, weights["score.weight"], weights["score.bias"])
    return points.reshape(len(points), -1, 2), score.sigmoid().reshape(-1)


_PARTS = (
    *("narrow.weight", "narrow.bias", "narrow.slope"),
    *("within.weight", "widen.weight", "widen.bias", "slope"),
)


def _block(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """One residual block; those whose first convolution is two pixels wide halve the picture."""
    stride = weights["narrow.weight"].shape[-1]
    y = F.conv2d(x, weights["narrow.weight"], weights["narrow.bias"], stride=stride)
    y = F.prelu(y, weights["narrow.slope"])
    y = F.conv2d(y, weights["within.weight"], padding=1, groups=y.shape[1])
    y = F.conv2d(y, weights["widen.weight"], weights["widen.bias"])
    if stride > 1:
        x = F.max_pool2d(x, stride)
    x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))  # channels that are new begin at 0
    return F.prelu(x + y, weights["slope"])


@lru_cache(maxsize=4)
def _weights(device: torch.device) -> dict[str, Tensor]:
    loaded = load_file(str(_WEIGHTS))
    return {name: value.to(device, torch.float32) for name, value in loaded.items()}
