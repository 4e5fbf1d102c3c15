"""Eyes and mouths of drawings, which are as their artist likes: found by colour, not by a net of human faces.

The net that finds a face's points lays human eyes into the large ones of a drawing, and lids that close by
these cover half of them; and it lays straight lips over a mouth that is one curved line. Where a face is
flat, an eye is what lies near the net's and has not the skin's colour, and so is a mouth; the points are
moved to the rims of the one, and along the line that is the other.

Points [468, 2] are pixels of a square, x to the right, y down, where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..pixels import to_pixels
from .face_mesh import (
    CREASES,
    EYES,
    LOWER,
    LOWER_LIP,
    MOUTH,
    NOSE_TIP,
    UPPER,
    UPPER_LIP,
)

UNDER = (110, 24, 23, 22, 26, 112, 25), (339, 254, 253, 252, 256, 341, 255)
"""Right below the rims of the lower lids, from left to right."""
FLAT = 0.35
"""Share of a face's pixels that are exactly like their neighbours: drawings have 0.5 and more, photographs
and renderings below 0.2.
"""
OTHER = 40.0
"""Distance of colours from the skin's that is no shade of it, of 441."""
REACH = (0.42, 0.5)
"""How far an eye may reach from the middle of the net's, across and down, in distances of the eyes."""
NOSE = 0.45
"""How far around the nose's tip its colour is looked for, in the same unit."""
NEAR, LEAST = 0.2, 0.01
"""How far away its own middle may be, so that it is no brow, and its least area, in the same unit."""
LEAST_APART = 8.0
"""Pixels between eyes that are eyes."""
THIN, AROUND = 0.06, 0.05
"""What is thinner is a lash, and how far around an eye there is skin, in the same unit."""
CORNERS = (61, 76, 62), (291, 306, 292)
"""Of the lips, outside those of the rims."""
MOUTH_REACH, MOUTH_NEAR = (0.8, 0.4), 0.3
"""How far a line may reach from the middle of the net's mouth, and how far away its own may be."""
SHORT, THICK = 0.25, 0.12
"""The least length of a line that is a mouth, and the most width of one, in the same unit."""
WIDER = 0.12
"""By how much its points lie further out beside an eye: between corner and rim they are joined straight."""
UNLIKE = 0.2
"""By how much the shares of two eyes that have not the skin's colour may differ."""
SKIN_AROUND = 0.6
"""Share of what is around an eye that has to be skin: in glasses and under hair it is not."""


@dataclass(frozen=True)
class DrawnFaces:
    """Of faces: places [B, 468, 2] in -1..1 of their points, with what is drawn; times [B, 468, 1]: how many
    times as high a point's eye is as the net's; skin [B, 3] within -1..1, where it is flat [B], 0
    or 1.
    """

    places: Tensor
    times: Tensor
    skin: Tensor
    flat: Tensor

    @staticmethod
    def none(mesh: Tensor) -> DrawnFaces:
        """Of points [B, 468, 2] of which none is a drawing's."""
        times, count = torch.ones_like(mesh[..., :1]), len(mesh)
        return DrawnFaces(mesh, times, mesh.new_zeros(count, 3), mesh.new_zeros(count))


def find_drawn_faces(pictures: Tensor, mesh: Tensor, has_mesh: Tensor) -> DrawnFaces:
    """Look for what is drawn near the points, mesh [B, 468, 2] in -1..1, of squares [B, 3, H, H] within
    -1..1, where there are points (has_mesh [B], 0 or 1).
    """
    found = DrawnFaces.none(mesh.clone())
    half = pictures.shape[-1] / 2
    for row, square in enumerate(to_pixels(pictures).permute(0, 2, 3, 1).cpu().numpy()):
        points = (mesh[row].cpu().numpy() + 1) * half
        if has_mesh[row] and is_flat(square, points):
            middles = [points[[*upper, *lower]].mean(0) for upper, lower in EYES]
            apart = float(np.linalg.norm(middles[1] - middles[0]))
            skin = _skin(square, points, apart) if apart > LEAST_APART else None
            if skin is None:
                continue
            other = np.linalg.norm(square - skin, axis=2) > OTHER
            found.skin[row] = torch.from_numpy(skin / 127.5 - 1).to(mesh)
            found.flat[row] = 1
            places, eyes = points, _eyes(other, middles, apart)
            if eyes is not None:
                places, times = _fitted(points, eyes)
                found.times[row, :, 0] = torch.from_numpy(times).to(mesh)
            line = _line(other, points, apart)
            if line is not None:
                places = _with_mouth(places, line)
            if places is not points:
                found.places[row] = torch.from_numpy(places / half - 1).to(mesh)
    return found


def is_flat(picture: np.ndarray, points: np.ndarray) -> bool:
    """Whether the face of uint8 [H, H, 3] is painted in a few colours."""
    face = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(points.astype(np.float32)).astype(np.int32), 1)
    alike = (picture[1:, 1:] == picture[:-1, 1:]) & (picture[1:, 1:] == picture[1:, :-1])
    inside = face[1:, 1:] > 0
    return bool(inside.any()) and float(alike.all(2)[inside].mean()) > FLAT


def _skin(picture: np.ndarray, points: np.ndarray, apart: float) -> np.ndarray | None:
    """The colour of most points around the nose, where there are least hair and glasses; None if most have
    none in common.
    """
    away = np.linalg.norm(points - points[NOSE_TIP], axis=1)
    near = [p for p in np.flatnonzero(away < NOSE * apart) if p not in (*UPPER, *LOWER)]
    x, y = points[near].round().astype(int).clip(0, len(picture) - 1).T
    colors = picture[y, x].astype(float)
    alike = np.linalg.norm(colors[:, None] - colors, axis=2) < OTHER / 2
    best = alike[alike.sum(1).argmax()]
    return np.median(colors[best], axis=0) if best.mean() > 0.5 else None


def _fitted(points: np.ndarray, shapes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Points with the eyes of these shapes, and times [468]."""
    moved, times = points.copy(), np.ones(len(points))
    for (upper, lower), creases, under, shape in zip(EYES, CREASES, UNDER, shapes, strict=True):
        places = _rims(shape, points[list(upper), 0], points[list(lower), 0])
        for rim, near, place in ((upper, creases, places[0]), (lower, under, places[1])):
            moved[list(near)] += (place - points[list(rim)])[1:-1]
            moved[list(rim)] = place
        high = [p[list(lower), 1].mean() - p[list(upper), 1].mean() for p in (points, moved)]
        times[[*upper, *lower, *creases, *under]] = high[1] / max(high[0], 1.0)
    return moved, times


def _things(
    other: np.ndarray, middle: np.ndarray, reach: np.ndarray, near: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What is whole within `reach` of a place, the nearest first: bool [h, w] and its upper left corner;
    near: how far away, in pixels, its own middle may be; other: what has not the skin's colour.
    """
    corners = [(middle + way * reach).round().astype(int).clip(0, len(other)) for way in (-1, 1)]
    (left, top), (right, bottom) = corners
    part = other[top:bottom, left:right].astype(np.uint8)
    if not part.size:  # OpenCV dies of it
        return
    count, labels, boxes, centres = cv2.connectedComponentsWithStats(part)
    away = np.linalg.norm(centres - (middle - corners[0]), axis=1)
    for index in sorted(range(1, count), key=away.__getitem__):
        x, y, wide, high, _ = boxes[index]
        goes_on = x == 0 or y == 0 or x + wide == part.shape[1] or y + high == part.shape[0]
        if not goes_on and away[index] <= near:
            yield labels == index, corners[0]


def _eye(other: np.ndarray, middle: np.ndarray, apart: float) -> np.ndarray | None:
    """Where a drawn eye is, bool [H, H], or None: one thing with skin around it, in its place and not beyond;
    other: what has not the skin's colour.
    """
    for thing, (left, top) in _things(other, middle, np.array(REACH) * apart, NEAR * apart):
        # Rings are filled, lashes taken off.
        whole = thing.astype(np.uint8)
        outline, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(whole), outline, -1, 1, -1)
        bare = cv2.morphologyEx(filled, cv2.MORPH_OPEN, _disc(THIN * apart))
        ring = (cv2.dilate(filled, _disc(2 * AROUND * apart)) - filled) > 0
        place = slice(top, top + len(thing)), slice(left, left + thing.shape[1])
        skin = 1 - other[place][ring].mean() if ring.any() else 0.0
        if bare.sum() > LEAST * apart**2 and skin > SKIN_AROUND:
            wider = np.ones((1, max(1, round(WIDER * apart)) | 1), np.uint8)
            shape = np.zeros(other.shape, bool)
            shape[place] = cv2.dilate(cv2.dilate(bare, _disc(AROUND * apart)), wider) > 0
            return shape
    return None


def _eyes(other: np.ndarray, middles: list[np.ndarray], apart: float) -> list[np.ndarray] | None:
    """Where both drawn eyes are, each bool [H, H], or None: one large eye beside a small one would look worse
    than two that blink half. One that is not found is the other's mirror image, if as much is drawn there.
    """
    # An eye that hangs together with a brow or with hair by a lash alone is a thing by itself.
    lines = _disc(THIN * apart)
    thick = cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_OPEN, lines) > 0
    left, right = (
        shape if (shape := _eye(other, middle, apart)) is not None else _eye(thick, middle, apart)
        for middle in middles
    )
    if left is not None and right is not None:
        return [left, right]
    shape = right if left is None else left
    if shape is None:
        return None
    # Across the line in the middle of the eyes, however the head is tilted.
    way = (middles[1] - middles[0]) / apart
    turn = np.eye(2) - 2 * np.outer(way, way)
    shift = (np.eye(2) - turn) @ (middles[0] + middles[1]) / 2
    turn, size = np.c_[turn, shift], other.shape[::-1]
    image = cv2.warpAffine(shape.astype(np.uint8), turn, size, flags=cv2.INTER_NEAREST) > 0
    # Hair or a patch over an eye fills it, and is no eye.
    if not image.any() or abs(other[image].mean() - other[shape].mean()) > UNLIKE:
        return None
    return [image, shape] if left is None else [shape, image]


def _line(other: np.ndarray, points: np.ndarray, apart: float) -> np.ndarray | None:
    """The middle [N, 2] of a mouth that is drawn as one line, from left to right, or None."""
    middle = points[[*MOUTH[0], *MOUTH[1]]].mean(0)
    reach = np.array(MOUTH_REACH) * apart
    for thing, corner in _things(other, middle, reach, MOUTH_NEAR * apart):
        columns = np.flatnonzero(thing.any(0))
        if len(columns) < SHORT * apart:
            continue
        shape = thing[:, columns]
        thick = shape.sum(0)
        whole = (thick == len(shape) - shape.argmax(0) - shape[::-1].argmax(0)).mean()
        if np.median(thick) > THICK * apart or whole < 0.9:
            return None  # it is open, or has lips
        down = (shape * np.arange(len(shape))[:, None]).sum(0) / thick
        return np.stack([columns, down], 1) + corner
    return None


def _with_mouth(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Points whose lips meet on a line, from its one end to its other."""
    moved = points.copy()
    for rim, lip in zip(MOUTH, (UPPER_LIP, LOWER_LIP), strict=True):
        across = _across(points[list(rim), 0], line[0, 0], line[-1, 0])
        places = np.stack([across, np.interp(across, line[:, 0], line[:, 1])], 1)
        ways = places - points[list(rim)]
        moved[list(rim)] = places
        for row in np.reshape(lip, (-1, len(rim) - 2)):
            moved[row] += ways[1:-1]
    for corner, way in zip(CORNERS, (ways[0], ways[-1]), strict=True):  # both lips share them
        moved[list(corner)] += way
    return moved


def _across(x: np.ndarray, first: float, last: float) -> np.ndarray:
    """Places from first to last, spread as x is between its ends."""
    share = ((x - x[0]) / max(float(x[-1] - x[0]), 1e-3)).clip(0, 1)
    return first + share * (last - first)


def _disc(across: float) -> np.ndarray:
    size = max(1, round(across)) | 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _rims(shape: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> list[np.ndarray]:
    """Where the points of both rims lie around a shape, as far across as they were, upper [9] and lower [9],
    between their corners.
    """
    columns = np.flatnonzero(shape.any(0))
    first, last = columns[0], columns[-1]
    tops = shape[:, first : last + 1].argmax(0)
    bottoms = len(shape) - shape[::-1, first : last + 1].argmax(0)
    found = []
    for x, edge in ((upper, tops), (lower, bottoms)):
        place = _across(x, first, last)
        found.append(np.stack([place, np.interp(place, np.arange(first, last + 1), edge)], 1))
    for end in (0, -1):  # they share their corners
        found[0][end, 1] = found[1][end, 1] = (found[0][end, 1] + found[1][end, 1]) / 2
    return found
