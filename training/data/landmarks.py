"""Where points of the body lie in every frame: the renderer's truth, for the autoencoder's warp."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from mutual_forcing.motion import UNITS

from .geometry import PIVOT, NormalSolver, on_screen, rotation_matrices
from .head_model import UNIT_NAMES, HeadModel, load_head_model

if TYPE_CHECKING:
    from .renderer import Performance, _Pose

LANDMARKS = 64
FACE_DENSITY = 2.5
"""How much denser the points lie in the face than elsewhere."""
FRONT = 0.3
"""Least cosine between a point's normal and the view, head and torso at rest."""
HALF_WIDTH, LOWEST = 4.0, -6.0
"""Beyond these no camera looks (eye distances)."""


TRACKED = 384
"""Points whose flow the animator is taught; see tracked_vertices."""
EYE_HALF_WIDTH, EYE_HALF_HEIGHT = 0.36, 0.24
"""Around an eye: the lid's skin folds away and comes back, so its way says nothing of pixels."""


@functools.cache
def landmark_vertices() -> np.ndarray:
    """Numbers of the vertices that are followed, int [64]: spread over what is seen from the front."""
    return np.concatenate([_spread(LANDMARKS - 2), load_head_model().lips])


@functools.cache
def tracked_vertices() -> np.ndarray:
    """Numbers of many more vertices, int [384]: as the landmarks, but none at the lids or inside the lips."""
    model = load_head_model()
    chosen = _spread(3 * TRACKED)
    x, y = model.mean[chosen, 0], model.mean[chosen, 1]
    eyes = model.mean[model.part == 1]
    middle = eyes[eyes[:, 0] > 0].mean(0)
    lid = np.hypot((np.abs(x) - middle[0]) / EYE_HALF_WIDTH, (y - middle[1]) / EYE_HALF_HEIGHT) < 1
    hidden = model.occlusion[chosen] < 0.25
    return chosen[~lid & ~hidden][:TRACKED]


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


def project(
    vertices: np.ndarray, pose: _Pose, matrix: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Places of the `chosen` vertices float32 [T, N, 2] in fractions of the picture, y down.

    vertices [T, V, 3] before the head turns, matrix [4, 4] the camera's; as the vertex shader does it.
    """
    return on_screen(_posed(vertices, pose, chosen)[1], matrix).astype(np.float32)


def facing(
    normals: np.ndarray, vertices: np.ndarray, pose: _Pose, camera: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Cosine between the normals [T, V, 3] of the `chosen` vertices and the way to the camera [3]: [T, N]."""
    turn, points = _posed(vertices, pose, chosen)
    view = camera - points
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    return (np.einsum("tvij,tvj->tvi", turn, normals[:, chosen]) * view).sum(-1)


def _posed(vertices: np.ndarray, pose: _Pose, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the `chosen` vertices are turned [T, N, 3, 3] and where they then are [T, N, 3]."""
    share = load_head_model().weight[chosen]
    turn = rotation_matrices(pose.rotation[:, None] * share[:, None])
    points = np.einsum("tvij,tvj->tvi", turn, vertices[:, chosen] - PIVOT) + PIVOT
    return turn, points + pose.translation[:, None]


def motion(performance: Performance) -> np.ndarray:
    """What moves a face, whoever's it is, in the order of mutual_forcing.motion.MOTION: float32 [T, 28]."""
    halves = [[i for i, full in enumerate(UNIT_NAMES) if full in _named(name)] for name in UNITS]
    units = [performance.units[:, found].mean(1) for found in halves]
    rest = (performance.gaze, performance.rotation, performance.translation)
    return np.concatenate([np.stack(units, 1), *rest], axis=1).astype(np.float32)


def _named(unit: str) -> tuple[str, ...]:
    return unit, f"{unit}Left", f"{unit}Right"


def _normals(model: HeadModel) -> np.ndarray:
    return NormalSolver(model.quads, len(model.mean))(model.mean[None])[0]
