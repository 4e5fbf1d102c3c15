"""From the square that the model animates to the film's picture: the uploaded pixels, moved.

The decoder works small and says where pixels go (its flow), what it paints, and where
(codecs/motion_codec.py, `Layers`). A flow is smooth, so it is enlarged to the film's size and the
upload's own pixels are fetched along it. Towards the square's rim everything fades to stillness, so the
square lies in the whole picture without a seam.

Coordinates: picture (pixels of the upload), film (pixels of the film), square (x, y in -1..1 within the
animated square, upright).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .codecs.motion_codec import PATCH, Layers
from .codecs.warping import (
    DETAIL_SIDE,
    DETAIL_X,
    DETAIL_Y,
    FINE,
    cut_detail,
    detail_window,
    smooth,
)
from .pixels import to_signal
from .types import FaceCrop, Framing

LONGEST = 1920
"""Most pixels on a film's longer side."""
SMALLEST = 256
"""Pictures are enlarged to this many pixels on the shorter side, and never beyond."""
SPARE = 1.5
"""The upload is reduced to no less than so much denser than the film, where it is: moving pixels by
fractions of a pixel softens them.
"""
DENSE = 3
"""Pixels are fetched, linearly, from a picture so many times as dense as the film. Of a photograph's
sharpness (variance of the Laplacian) 0.71 was left at 2, 0.80 at 3 and 0.83 at 4, all in 1.5 ms; cubically,
at 2, 0.85 in 3.7 ms.
"""
_NO_MAP: Any = None
"""Instead of a second map: cv2 takes None, its stubs do not know it."""
RIM = 0.12
"""Half-widths of the square over which motion fades to stillness at its rim."""


def film_size(
    picture: tuple[int, ...], crop: FaceCrop, framing: Framing = "whole", size: int = 512
) -> tuple[int, int]:
    """Width and height of the film, both even, of a picture of shape [H, W, 3] (see GenerationRequest)."""
    if framing == "face":
        side = _even(min(size, max(crop.side, SMALLEST)))
        return side, side
    scale = _scale(picture, size)
    return _even(picture[1] * scale), _even(picture[0] * scale)


def _scale(picture: tuple[int, ...], size: int) -> float:
    short, long = sorted(picture[:2])
    return min(size / short, LONGEST / long, max(1.0, SMALLEST / short))


def _even(value: float) -> int:
    return max(16, 2 * round(value / 2))


@dataclass(frozen=True)
class _Lookup:
    """Where the pixels of a part of the film lie in a map of `side` x `side` cells, for cv2.remap."""

    places: np.ndarray
    fractions: np.ndarray

    @staticmethod
    def of(within: np.ndarray, side: int) -> _Lookup:
        """within: float32 [h, w, 2], fractions of the map (x, y)."""
        exact = within * np.float32(side) - np.float32(0.5)
        return _Lookup(*cv2.convertMaps(exact, _NO_MAP, cv2.CV_16SC2))

    def read(self, values: np.ndarray) -> np.ndarray:
        """A map [side, side, C] for every pixel of the part: [h, w, C]."""
        return cv2.remap(
            values,
            self.places,
            self.fractions,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )


@dataclass(frozen=True)
class Canvas:
    """One character's picture, ready for a film. Made by `prepare`; nothing in it changes.

    reference_frame: uint8 [H, W, 3], the film's picture at rest. square: uint8 [2S, 2S, 3], the upright
    crop that the decoder sees. The others are what `compose` needs of `part`, the rectangle [h, w] of the
    film in which the square lies: `dense` uint8 [3h, 3w, 3], that part thrice as dense, whose every third
    pixel is the film's; `turn` [2, 2], from the square's coordinates to pixels of `dense`; `base` float32
    [h, w, 2], the pixels' own places in it; `near`, the detail's rectangle in the part. Ways are looked
    up for every other pixel and enlarged: `share` [h/2, w/2, 1] is how much of the motion is left,
    `inside` bool [.., .., 1] where the detail's way is the one to take.
    """

    reference_frame: np.ndarray
    square: np.ndarray
    part: tuple[slice, slice]
    near: tuple[slice, slice]
    dense: np.ndarray
    turn: np.ndarray
    base: np.ndarray
    share: np.ndarray
    inside: np.ndarray
    flow: _Lookup
    near_flow: _Lookup
    paint: _Lookup
    near_paint: _Lookup

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film."""
        return self.reference_frame.shape[1], self.reference_frame.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        lookups = (self.flow, self.near_flow, self.paint, self.near_paint)
        parts = [*vars(self).values(), *(a for lookup in lookups for a in vars(lookup).values())]
        return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

    def reference(self, device: torch.device) -> Tensor:
        """The upright square as the decoder wants it, [1, 3, 2S, 2S] within -1..1."""
        return to_signal(torch.from_numpy(self.square).to(device).permute(2, 0, 1)[None])

    def compose(self, layers: Layers, out: np.ndarray | None = None) -> np.ndarray:
        """Frames uint8 [T, H, W, 3] of the film from the layers of T frames; into `out` if it is given."""
        paint, near_paint = _weighted_paint(layers)
        flow, near_flow = (self._ways(f) for f in (layers.flow, layers.detail_flow))
        frames: np.ndarray = (
            np.empty((len(flow), *self.reference_frame.shape), np.uint8) if out is None else out
        )
        frames[:] = self.reference_frame
        for index, frame in enumerate(frames):
            moved = self._moved(flow[index], near_flow[index])
            over = self.paint.read(paint[index])
            near = over[self.near]
            cv2.add(near, self.near_paint.read(near_paint[index]), near)
            under = cv2.cvtColor(255 - over[..., 3], cv2.COLOR_GRAY2RGB)
            shown = cv2.multiply(moved, under, scale=1 / 255)
            frame[self.part] = cv2.add(shown, over[..., :3])
        return frames

    def _ways(self, flow: Tensor) -> np.ndarray:
        """A flow [T, 2, H, H] in halves of the square as ways in pixels of `dense`, [T, H, H, 2]."""
        return flow.float().permute(0, 2, 3, 1).cpu().numpy() @ self.turn.T

    def _moved(self, flow: np.ndarray, near_flow: np.ndarray) -> np.ndarray:
        """The part with its pixels moved and nothing painted: uint8 [h, w, 3]."""
        way = self.flow.read(flow)
        near = way[tuple(slice(s.start // 2, s.stop // 2) for s in self.near)]
        # At its rim the detail's flow is the other one: nothing shows where it ends.
        np.copyto(near, self.near_flow.read(near_flow), where=self.inside)
        height, width = self.base.shape[:2]
        places = cv2.resize(way * self.share, (width, height), interpolation=cv2.INTER_LINEAR)
        places += self.base
        return cv2.remap(
            self.dense, places, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )


def prepare(
    picture: np.ndarray,
    crop: FaceCrop,
    square: int,
    framing: Framing = "whole",
    size: int = 512,
) -> Canvas:
    """Lay out the film of uint8 RGB [H, W, 3] whose `crop` is animated.

    square: the side 2S of the decoder's reference. Raises ValueError, in one sentence, for a crop whose face
    lies outside the picture or is too small in a film of this size.
    """
    width, height = film_size(picture.shape, crop, framing, size)
    to_picture = crop.to_picture
    middle = np.array([crop.x, crop.y])
    # Pixel p of the film shows the picture's place p @ scale.T + corner.
    if framing == "face":
        scale = replace(crop, tall=1.0).to_picture * (2 / width)
        corner = middle + scale @ np.full(2, (1 - width) / 2)
    else:
        scale = np.diag(np.array(picture.shape[1::-1]) / (width, height))
        corner = np.diag(scale) / 2
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    _check_place(picture.shape, crop)
    within = (grid @ scale.T + corner - middle) @ np.linalg.inv(to_picture).T
    part = _extent(np.abs(within).max(-1) < 1)
    within = within[part].astype(np.float32)
    fractions = (within + 1) / 2
    detail = (fractions - np.array([DETAIL_X, DETAIL_Y], np.float32)) / np.float32(DETAIL_SIDE)
    near = _extent(np.all((detail > 0) & (detail < 1), -1))
    frame, dense = _pictures(picture, scale, corner, (width, height), part)
    base = DENSE * (grid[part] - np.array([part[1].start, part[0].start], np.float32))
    halves = _every_other(fractions)
    near_halves = _every_other(detail[near])
    rim = 2 * np.minimum(halves, 1 - halves).min(-1, keepdims=True)
    share = np.clip(rim / RIM, 0, 1)
    return Canvas(
        reference_frame=frame,
        square=cut_square(picture, crop, square),
        part=part,
        near=near,
        dense=dense,
        turn=(DENSE * np.linalg.inv(scale) @ to_picture).astype(np.float32),
        base=base,
        share=smooth(share),
        inside=np.all((near_halves > 0) & (near_halves < 1), -1, keepdims=True),
        flow=_Lookup.of(halves, square // FINE // PATCH),
        near_flow=_Lookup.of(near_halves, square // FINE // 2),
        paint=_Lookup.of(fractions, square // FINE),
        near_paint=_Lookup.of(detail[near], square // FINE),
    )


def _check_place(shape: tuple[int, ...], crop: FaceCrop) -> None:
    """Raise ValueError unless the middle of the crop, where eyes and mouth are, lies in the picture."""
    if not (0 <= crop.x <= shape[1] and 0 <= crop.y <= shape[0]):
        raise ValueError("The face that is to be animated lies outside the picture.")


def _pictures(
    picture: np.ndarray,
    scale: np.ndarray,
    corner: np.ndarray,
    size: tuple[int, int],
    part: tuple[slice, slice],
) -> tuple[np.ndarray, np.ndarray]:
    """The reference frame, and its `part` thrice as dense; every third pixel of that is the frame's."""
    # Not denser than can be told apart: what lies between the film's pixels flickers when it moves.
    source, reduced = _reduced(picture, SPARE / float(np.linalg.norm(scale[:, 0])))
    step, start = scale * reduced, corner * reduced - 0.5  # a pixel lies at its middle

    def seen(step: np.ndarray, start: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        matrix = np.concatenate([step, start[:, None]], 1)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    rows, columns = part
    first = step @ np.array([columns.start, rows.start]) + start
    extent = (DENSE * (columns.stop - columns.start), DENSE * (rows.stop - rows.start))
    dense = seen(step / DENSE, first, extent)
    frame = seen(step, start, size)
    frame[part] = dense[::DENSE, ::DENSE]
    return frame, dense


def _every_other(places: np.ndarray) -> np.ndarray:
    """Places [h, w, 2] of the middles of 2 x 2 pixels: [h/2, w/2, 2]."""
    height, width = places.shape[:2]
    return cv2.resize(places, (width // 2, height // 2), interpolation=cv2.INTER_AREA)


def _weighted_paint(layers: Layers) -> tuple[np.ndarray, np.ndarray]:
    """Paint weighted by how much it covers, and that, of all and of the detail: uint8 [T, S, S, 4].

    They add up: where the detail is, the rest is left out.
    """
    painted = layers.painted
    rest, detail = (share.to(painted.device) for share in _paint_shares(painted.shape[-1]))
    whole = _paint(painted, layers.mask, rest)
    return whole, _paint(layers.detail_painted, layers.detail_mask, detail)


@functools.cache
def _paint_shares(size: int) -> tuple[Tensor, Tensor]:
    """How much of the paint shows, of all but the detail and of the detail: both [1, 1, size, size]."""
    # The outermost cells count as the rim: beyond it they go on.
    line = torch.linspace(-1, 1, size).abs()
    rim = ((1 - line) / RIM).clamp(0, 1)
    rest = smooth(torch.minimum(rim[:, None], rim))[None, None]
    detail = detail_window(rest)
    cut_detail(rest).mul_(1 - F.interpolate(detail, scale_factor=DETAIL_SIDE, mode="area"))
    return rest, detail


def _paint(painted: Tensor, mask: Tensor, share: Tensor) -> np.ndarray:
    covers = (1 - mask.float()) * share
    paint = (painted.float().clamp(-1, 1) + 1) / 2 * covers
    both = torch.cat([paint, covers], 1).mul_(255).round_().to(torch.uint8)
    return both.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _reduced(picture: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """The picture at `scale` of its size, never enlarged, and the scale that it has."""
    if scale >= 1:
        return picture, 1.0
    height, width = picture.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), size[0] / width


def cut_square(picture: np.ndarray, crop: FaceCrop, side: int) -> np.ndarray:
    """The crop as an upright square uint8 [side, side, 3]; beyond the picture its border goes on."""
    source, scale = _reduced(picture, side / crop.side)
    line = (np.arange(side, dtype=np.float32) * 2 + 1) / side - 1
    grid = np.stack(np.meshgrid(line, line), -1)
    places = (grid @ crop.to_picture.T + np.array([crop.x, crop.y])) * scale - 0.5
    return cv2.remap(
        source, places.astype(np.float32), _NO_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _extent(inside: np.ndarray) -> tuple[slice, slice]:
    """The smallest rectangle of even sides and corners that holds all of bool [h, w], whose sides are even,
    that is true. Raises ValueError for nothing.
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        raise ValueError(
            "The face is too small in a film of this size; ask for a larger one, or for the face alone."
        )
    first, last = (np.array([line[place] // 2 for line in (rows, columns)]) for place in (0, -1))
    height, width = (
        slice(2 * a, 2 * b + 2) for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )
    return height, width
