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


@functools.cache
def landmark_vertices() -> np.ndarray:
    """Numbers of the vertices that are followed, int [64]: spread over what is seen from the front."""
    model = load_head_model()
    rest = model.mean
    facing = _normals(model)[:, 2] > FRONT
    framed = (np.abs(rest[:, 0]) < HALF_WIDTH) & (rest[:, 1] > LOWEST)
    seen = np.flatnonzero((model.part == 0) & facing & framed & (rest[:, 2] > -1.6))
    face = (np.abs(rest[seen, 0]) < 1.2) & (rest[seen, 1] > -2.0) & (rest[seen, 1] < 0.7)
    space = rest[seen] * np.where(face, FACE_DENSITY, 1.0)[:, None]
    chosen = [int(np.argmax(rest[seen, 2]))]
    distance = np.full(len(seen), np.inf)
    while len(chosen) < LANDMARKS - len(model.lips):
        distance = np.minimum(distance, np.square(space - space[chosen[-1]]).sum(1))
        chosen.append(int(np.argmax(distance)))
    return np.concatenate([seen[chosen], model.lips])


def project_landmarks(vertices: np.ndarray, pose: _Pose, matrix: np.ndarray) -> np.ndarray:
    """Places of the landmarks float32 [T, 64, 2] in fractions of the picture, y down.

    vertices [T, V, 3] before the head turns, matrix [4, 4] the camera's; as the vertex shader does it.
    """
    chosen = landmark_vertices()
    share = load_head_model().weight[chosen]
    turn = rotation_matrices(pose.rotation[:, None] * share[:, None])
    points = np.einsum("tvij,tvj->tvi", turn, vertices[:, chosen] - PIVOT) + PIVOT
    return on_screen(points + pose.translation[:, None], matrix).astype(np.float32)


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
