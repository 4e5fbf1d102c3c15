"""Where points of the body lie in every frame: the renderer's truth, for the autoencoder's warp."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from mutual_forcing.motion import UNITS

from .geometry import PIVOT, NormalSolver, rotation_matrices
from .head_model import HeadModel, load_head_model, unit_columns

if TYPE_CHECKING:
    from .renderer import Performance, _Pose

LANDMARKS = 64
FACE_DENSITY = 2.5
"""How much denser the points lie in the face than elsewhere."""
FRONT = 0.3
"""Least cosine between a point's normal and the view, head and torso at rest."""
HALF_WIDTH, LOWEST = 4.0, -6.0
"""Beyond these no camera looks (eye distances)."""


SPREAD = 384
"""Tracked vertices all over the head; those of the face come on top."""
EYE_RING = ((0.0, 1), (0.5, 6), (1.0, 8), (1.5, 8))
"""Tracked points of an iris and its pupil: how far from its middle, in iris radii, and how many there."""
EYE_POINTS = sum(count for _, count in EYE_RING)
FACE_X, FACE_Y, FACE_Z = 1.3, (-2.2, 0.9), -0.6
"""What belongs to the face, at rest: half its width, its lowest and highest point, and its rearmost."""


@functools.cache
def landmark_vertices() -> np.ndarray:
    """Numbers of the vertices that are followed, int [64]: spread over what is seen from the front."""
    return np.concatenate([_spread(LANDMARKS - 2), load_head_model().lips])


@functools.cache
def tracked_corners() -> np.ndarray:
    """Vertices whose mean every tracked point of the body is, int [N, 4]: all vertices and quads of the face
    and its mouth, teeth and tongue, and some of the rest of the head."""
    model = load_head_model()
    x, y, z = model.mean.T
    face = (np.abs(x) < FACE_X) & (y > FACE_Y[0]) & (y < FACE_Y[1]) & (z > FACE_Z)
    inside = (model.part == 2) | (model.part == 3)
    single = np.union1d(np.flatnonzero((face & (model.part == 0)) | inside), _spread(SPREAD))
    quads = model.quads[(model.quad_part == 0) & face[model.quads].all(1)]
    return np.concatenate([np.repeat(single[:, None], 4, 1), quads])


def tracked_count() -> int:
    """How many points are tracked: those of the body and of where both eyes look."""
    return len(tracked_corners()) + 2 * EYE_POINTS


def _spread(count: int) -> np.ndarray:
    """`count` vertices of the skin as far from each other as they can be, more of them in the face."""
    model = load_head_model()
    rest = model.mean
    facing = _normals(model)[:, 2] > FRONT
    framed = (np.abs(rest[:, 0]) < HALF_WIDTH) & (rest[:, 1] > LOWEST)
    seen = np.flatnonzero((model.part == 0) & facing & framed & (rest[:, 2] > -1.6))
    face = (np.abs(rest[seen, 0]) < 1.2) & (rest[seen, 1] > -2.0) & (rest[seen, 1] < 0.7)
    space = rest[seen] * np.where(face, FACE_DENSITY, 1.0)[:, None]
    chosen = [int(np.argmax(rest[seen, 2]))]
    distance = np.full(len(seen), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.square(space - space[chosen[-1]]).sum(1))
        chosen.append(int(np.argmax(distance)))
    return seen[chosen]


def posed(
    vertices: np.ndarray, pose: _Pose, chosen: np.ndarray, normals: np.ndarray | None = None
) -> np.ndarray:
    """Where the `chosen` of vertices [T, V, 3] are once the head is turned, [T, N, 3], as the vertex shader
    does it; with `normals`, these turned instead."""
    share = load_head_model().weight[chosen]
    turn = rotation_matrices(pose.rotation[:, None] * share[:, None])
    if normals is not None:
        return np.einsum("tvij,tvj->tvi", turn, normals[:, chosen])
    points = np.einsum("tvij,tvj->tvi", turn, vertices[:, chosen] - PIVOT) + PIVOT
    return points + pose.translation[:, None]


def iris_points(ball: np.ndarray, gaze: np.ndarray, radius: float) -> np.ndarray:
    """Points of iris and pupil [T, K, 3] on an eyeball of vertices [T, V, 3] that looks along gaze [T, 3]."""
    middle = ball.mean(1, keepdims=True)
    size = np.linalg.norm(ball - middle, axis=-1).mean(1)[:, None, None]
    across = np.cross([0.0, 1.0, 0.0], gaze)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    up = np.cross(gaze, across)
    ways = [gaze[:, None]]
    for far, count in EYE_RING[1:]:
        angle = np.arange(count) * (2 * np.pi / count)
        spread = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * up[:, None]
        ways.append(gaze[:, None] + far * radius * spread)
    way = np.concatenate(ways, 1)
    return middle + size * way / np.linalg.norm(way, axis=-1, keepdims=True)


def motion(performance: Performance) -> np.ndarray:
    """What moves a face, whoever's it is, in the order of mutual_forcing.motion.MOTION: float32 [T, 28]."""
    units = [performance.units[:, unit_columns(name)].mean(1) for name in UNITS]
    rest = (performance.gaze, performance.rotation, performance.translation)
    return np.concatenate([np.stack(units, 1), *rest], axis=1).astype(np.float32)


def _normals(model: HeadModel) -> np.ndarray:
    return NormalSolver(model.quads, len(model.mean))(model.mean[None])[0]
