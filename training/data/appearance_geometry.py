"""Geometry that depends on the appearance: hair shell, glasses, neckline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from training.data.appearance import Appearance
from training.data.head_model import HeadModel, load_head_model

COLUMNS = 80
DOME_ROWS = 20
HANG_ROWS = 11
# The cranium's middle and how far the crown lies behind the top, in rest coordinates.
CENTER = np.array([0.0, 0.35, -1.05], np.float32)
CROWN_TILT = 0.35
LONG_STYLES = ("bob", "long", "wavy")
CURLY_STYLES = ("curly", "afro")


@dataclass(frozen=True)
class Shell:
    """A drawable surface: position, normal, rest (with head share), extra, direction, triangles."""

    position: np.ndarray
    normal: np.ndarray
    rest: np.ndarray
    extra: np.ndarray
    direction: np.ndarray
    triangles: np.ndarray


def hairline(rest: np.ndarray, appearance: Appearance, roots: bool = False) -> np.ndarray:
    """Height above the hairline, positive where hair shows, for rest coordinates [..., 3].

    With `roots` only where it grows, so that long hair does not tint the neck.
    """
    x, y, z = rest[..., 0], rest[..., 1], rest[..., 2]
    lift = appearance.hairline
    front = 1.14 + lift - 0.16 * x * x + 0.05 * np.cos(5 * x)
    if appearance.hair_style == "fringe" or (
        appearance.hair_style == "bob" and appearance.hair_volume > 0.4
    ):
        front = 0.56 + 0.1 * np.sin(4 * x + 6 * appearance.hair_part) - 0.05 * x * x
    line = np.interp(
        z,
        [-2.1, -1.85, -1.6, -1.15, -1.0, -0.85, -0.55, -0.1],
        [-1.5, -0.9, 0.35, 0.4, -0.25, -0.2, 0.55, 1.05],
    ).astype(np.float32)
    line = np.where(z > -0.1, front, np.minimum(line, np.maximum(front, line)))
    near = np.clip((z + 0.55) / 0.45, 0, 1)
    line = np.where((z > -0.55) & (z <= -0.1), 0.55 * (1 - near) + front * near, line)
    above = y - line
    if appearance.hair_style == "balding":
        above = np.minimum(above, 0.85 - y - 0.45 * np.clip((z + 1.9) / 1.2, -0.6, 1.2))
    if appearance.hair_style in LONG_STYLES and not roots:
        above = np.maximum(above, np.minimum(-0.62 - z, 0.5))
    return above


@functools.cache
def _dome_binding() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearest scalp vertices and weights [N, 8], polar [N] and azimuth [N] of the dome's grid."""
    model = load_head_model()
    points = model.mean
    ear = (np.abs(points[:, 0]) > 1.02) & (points[:, 1] < 0.55) & (points[:, 1] > -0.95)
    ear &= (points[:, 2] < -0.75) & (points[:, 2] > -2.05)
    scalp = (model.part == 0) & (points[:, 1] > -1.9) & ~ear & (model.occlusion > 0.35)
    scalp &= (points[:, 2] < -0.6) | (points[:, 1] > 0.3)
    chosen = np.flatnonzero(scalp)
    offset = points[chosen] - CENTER
    directions = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    share = np.linspace(0.004, 1, DOME_ROWS)
    azimuth = np.linspace(-np.pi, np.pi, COLUMNS)
    polar = share[:, None] * _polar_end(azimuth)[None]
    azimuth = np.broadcast_to(azimuth, polar.shape)
    rays = dome_rays(polar, azimuth).reshape(-1, 3)
    nearness = rays @ directions.T
    nearest = np.argsort(-nearness, axis=1)[:, :8]
    closeness = np.take_along_axis(nearness, nearest, axis=1)
    weights = 1 / (2 - 2 * closeness + 2e-3) ** 1.5
    weights /= weights.sum(1, keepdims=True)
    return chosen[nearest], weights.astype(np.float32), polar, azimuth


def dome_rays(polar: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Unit directions [..., 3]; the pole is the crown, azimuth 0 is the face."""
    x = np.sin(polar) * np.sin(azimuth)
    y = np.cos(polar)
    z = np.sin(polar) * np.cos(azimuth)
    c, s = np.cos(CROWN_TILT), np.sin(CROWN_TILT)
    return np.stack([x, c * y + s * z, c * z - s * y], axis=-1).astype(np.float32)


def _polar_end(azimuth: np.ndarray) -> np.ndarray:
    away = np.abs(azimuth) / np.pi
    return np.interp(away, [0, 0.3, 0.55, 0.8, 1.0], [1.72, 1.72, 1.72, 1.72, 1.72])


def _dome(identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bare scalp under the dome: positions and rest coordinates [rows, columns, 3]."""
    index, weights, polar, azimuth = _dome_binding()
    model = load_head_model()
    rays = dome_rays(polar, azimuth).reshape(-1, 3)

    def radial(points: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(points[index] - CENTER, axis=-1)
        radius = (weights * distance).sum(1)
        shape = (DOME_ROWS, COLUMNS)
        smooth = _smooth_grid(radius.reshape(shape))
        return CENTER + rays.reshape(*shape, 3) * smooth[..., None]

    return radial(identity), radial(model.mean)


def _smooth_grid(values: np.ndarray) -> np.ndarray:
    for _ in range(3):
        ring = values[:, :-1]
        ring = (np.roll(ring, 1, 1) + 2 * ring + np.roll(ring, -1, 1)) / 4
        ring[1:-1] = (ring[:-2] + 2 * ring[1:-1] + ring[2:]) / 4
        ring[0] = ring[0].mean()
        values = np.concatenate([ring, ring[:, :1]], axis=1)
    return values


def _thickness(appearance: Appearance, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    volume = appearance.hair_volume
    base = {
        "buzz": 0.035, "short": 0.13 + 0.12 * volume, "swept": 0.2 + 0.15 * volume,
        "fringe": 0.16 + 0.12 * volume, "curly": 0.28 + 0.25 * volume,
        "afro": 0.6 + 0.6 * volume, "bob": 0.2 + 0.15 * volume, "long": 0.17 + 0.15 * volume,
        "wavy": 0.24 + 0.18 * volume, "bun": 0.1 + 0.05 * volume, "mohawk": 0.03,
        "balding": 0.1,
    }[appearance.hair_style]  # fmt: skip
    x, y, z = rest[..., 0], rest[..., 1], rest[..., 2]
    edge = np.clip(hairline(rest, appearance) / 0.35, 0, 1)
    soft = edge * (2 - edge)
    thickness = base * (0.3 + 0.7 * soft)
    if appearance.hair_style in ("short", "swept"):
        top = np.clip((y - 0.5) / 0.9, 0, 1)
        thickness = thickness * (0.35 + 0.95 * top)
    if appearance.hair_style == "swept":
        thickness += (
            0.2 * np.clip((z + 0.6) / 0.7, 0, 1) * soft * (1 + 0.5 * x * appearance.hair_part)
        )
    if appearance.hair_style == "mohawk":
        ridge = np.clip(1 - np.abs(x) / 0.36, 0, 1) ** 0.6
        thickness = 0.02 + ridge * (0.5 + 0.7 * volume) * soft
    waves = _waves(rest, rng, 9.0 if appearance.hair_style in CURLY_STYLES else 2.5)
    if appearance.hair_style in CURLY_STYLES:
        # A ball, not a bell: the lower rim curves back to the head.
        share = np.linspace(0, 1, DOME_ROWS)[:, None]
        thickness = thickness * np.sqrt(1 - 0.97 * share**5)
    amount = 0.3 if appearance.hair_style == "curly" else 0.12
    return thickness * (1 + amount * waves)


def _waves(rest: np.ndarray, rng: np.random.Generator, frequency: float) -> np.ndarray:
    total = np.zeros(rest.shape[:-1], np.float32)
    for _ in range(6):
        vector = rng.normal(size=3).astype(np.float32) * frequency / 1.7
        total += np.sin(rest @ vector + rng.uniform(0, 6)).astype(np.float32)
    return total / 2.5


def hair_shell(appearance: Appearance, identity: np.ndarray) -> Shell | None:
    """The hair of an appearance fitted to a head at rest [V, 3]; None for a bald head."""
    if appearance.hair_style == "bald":
        return None
    rng = np.random.default_rng(appearance.seed + 2)
    scalp, rest = _dome(identity)
    outward = scalp - CENTER
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    position = scalp + outward * _thickness(appearance, rest, rng)[..., None]
    edge = hairline(rest, appearance)
    share = np.ones(edge.shape, np.float32)
    tip = np.zeros(edge.shape, np.float32)
    azimuth = _dome_binding()[3]
    if appearance.hair_style in LONG_STYLES:
        position, rest, edge, share, tip = _hang(appearance, position, rest, edge, rng)
    rows = len(position)
    azimuth = np.broadcast_to(azimuth[0], (rows, COLUMNS))
    normal, flow = _grid_frames(position)
    along = np.concatenate(
        [np.zeros((1, COLUMNS)), np.linalg.norm(np.diff(position, axis=0), axis=-1).cumsum(0)]
    )
    extra = np.stack([azimuth / (2 * np.pi), along, edge, tip], axis=-1)
    rest4 = np.concatenate([rest, share[..., None]], axis=-1)
    shell = _flatten(position, normal, rest4, extra, flow, _grid_triangles(rows, COLUMNS))
    return _join([shell, _bun(appearance, identity)]) if appearance.hair_style == "bun" else shell


def _hang(
    appearance: Appearance,
    position: np.ndarray,
    rest: np.ndarray,
    edge: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Continue the dome's last row downwards as a curtain; returns the longer grids."""
    extra = appearance.hair_length
    length = 1.5 + 0.5 * extra if appearance.hair_style == "bob" else 2.6 + 2.2 * extra
    t = np.linspace(0, 1, HANG_ROWS + 1)[1:, None].astype(np.float32)
    start, start_rest = position[-1], rest[-1]
    out = (start - CENTER) * (1, 0, 1)
    out /= np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-6)
    azimuth = _dome_binding()[3][0]
    bulge = 0.34 * np.sin(np.pi * np.clip(t * length / 2.2, 0, 1)) + 0.12 * t * length / 3
    if appearance.hair_style == "bob":
        bulge = 0.42 * np.sin(np.pi * 0.75 * t)
    wave = np.sin(t * length * 3.2 + 3 * np.sin(azimuth * 2)[None] + rng.uniform(0, 6))
    bulge = bulge + (0.11 if appearance.hair_style == "wavy" else 0.025) * wave * np.minimum(
        1, 3 * t
    )
    drop = t * length * (1 + 0.03 * np.sin(azimuth * 7 + rng.uniform(0, 6))[None])
    shift = out[None] * bulge[..., None]
    down = np.zeros((HANG_ROWS, COLUMNS, 3), np.float32)
    down[..., 1] = -drop
    hung = start[None] + shift + down
    hung_rest = start_rest[None] + down
    opening = np.minimum(-0.62 - hung[..., 2] + 0.35 * np.clip(t * length - 1.2, 0, 1), 0.5)
    share = np.clip(1.0 - 0.3 * np.clip((drop - 1.0) / 2.0, 0, 1), 0, 1)
    tip = np.broadcast_to(t**4, drop.shape)
    ones = np.ones(position.shape[:2], np.float32)
    return (
        np.concatenate([position, hung]),
        np.concatenate([rest, hung_rest]),
        np.concatenate([edge, opening]),
        np.concatenate([ones, share]),
        np.concatenate([0 * ones, tip]),
    )


def _bun(appearance: Appearance, identity: np.ndarray) -> Shell:
    radius = 0.55 + 0.25 * appearance.hair_volume
    rows = 20
    polar = np.linspace(0.01, np.pi - 0.01, rows)[:, None]
    azimuth = np.linspace(-np.pi, np.pi, COLUMNS)[None]
    x = np.sin(polar) * np.sin(azimuth)
    z = np.sin(polar) * np.cos(azimuth)
    unit = np.stack([x, np.cos(polar) + 0 * x, z], axis=-1)
    top = identity[identity[:, 1].argmax()]
    height = 0.2 + 0.3 * appearance.hair_length
    place = np.array([0, top[1] + height, -1.45 - 0.2 * appearance.hair_length], np.float32)
    position = place + unit * radius * (1, 0.85, 1)
    normal, flow = _grid_frames(position)
    along = np.broadcast_to(polar * radius, x.shape)
    full = np.ones_like(x)
    extra = np.stack([np.broadcast_to(azimuth / (2 * np.pi), x.shape), along, full, 0 * x], -1)
    rest = np.concatenate([position, full[..., None]], axis=-1)
    return _flatten(position, normal, rest, extra, flow, _grid_triangles(rows, COLUMNS))


def _grid_frames(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals and unit flow (down the rows) of a closed-in-azimuth grid."""
    flow = np.gradient(grid, axis=0)
    wrapped = np.concatenate([grid[:, -2:-1], grid, grid[:, 1:2]], axis=1)
    around = wrapped[:, 2:] - wrapped[:, :-2]
    normal = np.cross(flow, around)
    normal[0] = normal[1].mean(0) if len(grid) > 1 else normal[0]
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    flow /= np.maximum(np.linalg.norm(flow, axis=-1, keepdims=True), 1e-9)
    return normal, flow


def _grid_triangles(rows: int, columns: int) -> np.ndarray:
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def _flatten(*arrays: np.ndarray) -> Shell:
    *fields, triangles = arrays
    flat = [np.ascontiguousarray(f.reshape(-1, f.shape[-1]), np.float32) for f in fields]
    return Shell(*flat, triangles)


def _join(shells: list[Shell]) -> Shell:
    starts = np.cumsum([0] + [len(shell.position) for shell in shells])
    triangles = [shell.triangles + start for shell, start in zip(shells, starts, strict=False)]
    names = ("position", "normal", "rest", "extra", "direction")
    fields = [np.concatenate([getattr(shell, name) for shell in shells]) for name in names]
    return Shell(*fields, np.concatenate(triangles).astype(np.int32))


def accessories(appearance: Appearance, identity: np.ndarray, model: HeadModel) -> Shell | None:
    """Glasses, fitted to the eyes of a head at rest; None without any."""
    if appearance.glasses == "none":
        return None
    eyes = model.part == 1
    tubes = []
    front = 0.0
    for side in (-1, 1):
        eye = identity[eyes & (np.sign(model.mean[:, 0]) == side)]
        middle = (eye.max(0) + eye.min(0)) / 2
        front = middle[2] + 0.46
        angle = np.linspace(0, 2 * np.pi, 41)
        power = 1.0 if appearance.glasses == "round" else 0.5
        ring_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
        ring_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
        width, height = (0.38, 0.36) if appearance.glasses == "round" else (0.40, 0.28)
        x, y = middle[0] + width * ring_x + 0.02 * side, middle[1] - 0.05 + height * ring_y
        tubes.append(np.stack([x, y, front - 0.12 * (np.abs(x) - 0.3)], 1))
        hinge = np.array([middle[0] + side * (width + 0.02), middle[1] + 0.08, front - 0.1])
        back = np.array([side * 1.22, middle[1] + 0.1, -1.3])
        tubes.append(hinge + np.linspace(0, 1, 8)[:, None] * (back - hinge))
        inner = middle[0] - side * (width - 0.02)
        if side == 1:
            x = np.linspace(-inner, inner, 8)
            y = middle[1] + 0.03 + 0.05 * np.cos(np.linspace(-1.5, 1.5, 8))
            tubes.append(np.stack([x, y, np.full(8, front + 0.05)], 1))
    return _join([_tube(line, 0.028) for line in tubes])


def _tube(line: np.ndarray, radius: float) -> Shell:
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    side = np.cross(tangent, np.array([0.03, 0.05, 1.0]))
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    up = np.cross(side, tangent)
    angle = np.linspace(0, 2 * np.pi, 7)
    normal = side[:, None] * np.cos(angle)[:, None] + up[:, None] * np.sin(angle)[:, None]
    position = line[:, None] + radius * normal
    rest = np.concatenate([position, np.ones((*position.shape[:2], 1))], axis=-1)
    extra = np.ones((*position.shape[:2], 4))
    triangles = _grid_triangles(len(line), len(angle))
    return _flatten(position, normal, rest, extra, normal, triangles)


def neckline(appearance: Appearance, rest: np.ndarray) -> np.ndarray:
    """Depth below the garment's edge in eye distances, positive on cloth, rest [V, 3] -> [V]."""
    x, y, z = rest[:, 0], rest[:, 1], rest[:, 2]
    line = -2.85 - 0.42 * (z + 1.6) + 0.3 * np.clip(np.abs(x) - 1.0, 0, 2)
    if appearance.neckline in ("v", "shirt"):
        depth = 1.5 if appearance.neckline == "v" else 1.0
        line = line - np.clip(depth - 1.5 * np.abs(x), 0, None) * np.clip((z + 1.5) * 2, 0, 1)
    elif appearance.neckline == "scoop":
        line = line - 0.2 - 0.4 * np.clip(1 - (x / 1.5) ** 2, 0, 1)
    elif appearance.neckline == "turtleneck":
        line = -2.35 - 0.35 * (z + 1.6)
    elif appearance.neckline == "hoodie":
        line = -2.7 - 0.42 * (z + 1.6) + 0.2 * np.clip(np.abs(x) - 1.0, 0, 2)
    return line - y


def garment_thickness(appearance: Appearance, rest: np.ndarray) -> np.ndarray:
    """How far the garment stands off the skin, [V]."""
    depth = neckline(appearance, rest)
    thickness = 0.02 + 0.07 * np.clip(depth / 0.35, 0, 1)
    if appearance.neckline == "hoodie":
        thickness += 0.42 * np.exp(-(((depth - 0.35) / 0.4) ** 2))
    elif appearance.neckline in ("shirt", "turtleneck"):
        thickness += 0.05 * np.exp(-(((depth - 0.1) / 0.3) ** 2))
    return thickness
