"""Where points of a head go: normals, turns about the neck, and the camera, as the shaders compute them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

PIVOT = np.array([0.0, -1.35, -1.35], np.float32)
"""What the head turns about, in eye distances."""


class NormalSolver:
    """Vertex normals of many frames at once, by one sparse product."""

    def __init__(self, quads: np.ndarray, count: int) -> None:
        self._quads = quads
        columns = np.repeat(np.arange(len(quads)), 4)
        ones = np.ones(quads.size, np.float32)
        self._gather = sparse.csr_matrix((ones, (quads.reshape(-1), columns)), (count, len(quads)))

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """[T, V, 3] -> unit normals float32 [T, V, 3]."""
        first = vertices[:, self._quads[:, 2]] - vertices[:, self._quads[:, 0]]
        second = vertices[:, self._quads[:, 3]] - vertices[:, self._quads[:, 1]]
        faces = np.empty_like(first)
        for axis in range(3):
            i, j = (axis + 1) % 3, (axis + 2) % 3
            faces[..., axis] = first[..., i] * second[..., j] - first[..., j] * second[..., i]
        flat = np.ascontiguousarray(faces.transpose(1, 0, 2)).reshape(len(self._quads), -1)
        normals = (self._gather @ flat).reshape(-1, len(vertices), 3).transpose(1, 0, 2)
        length = np.sqrt(np.einsum("tvc,tvc->tv", normals, normals))
        return normals / np.maximum(length, 1e-9)[..., None]


def rotation_matrices(angles: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll [..., 3] -> matrices [..., 3, 3]; the vertex shader does the same."""
    (cx, cy, cz), (sx, sy, sz) = (
        np.moveaxis(np.cos(angles), -1, 0),
        np.moveaxis(np.sin(angles), -1, 0),
    )
    zero, one = np.zeros_like(cx), np.ones_like(cx)

    def build(*rows: np.ndarray) -> np.ndarray:
        return np.stack(rows, axis=-1).reshape(*cx.shape, 3, 3)

    yaw = build(cx, zero, sx, zero, one, zero, -sx, zero, cx)
    pitch = build(one, zero, zero, zero, cy, -sy, zero, sy, cy)
    roll = build(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return yaw @ pitch @ roll


def on_screen(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points [T, V, 3] by the camera's matrix [4, 4]: x, y [T, V, 2] in fractions of the picture, y down."""
    return on_screen_with_depth(points, matrix)[0]


def on_screen_with_depth(points: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `on_screen`, and how far before the camera the points lie, [T, V]."""
    homogeneous = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1)
    clip = homogeneous @ matrix.T
    return clip[..., :2] / clip[..., 3:] * (0.5, -0.5) + 0.5, clip[..., 3]
