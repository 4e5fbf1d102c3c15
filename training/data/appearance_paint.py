"""What is painted once per appearance with NumPy: the face and the background."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from training.data.appearance import Appearance

FACE_SIZE = (368, 256)
FACE_X = (-1.6, 1.6)
FACE_Y = (-2.4, 2.2)
MOUTH_CENTER_Y = -1.168
MOUTH_HALF_WIDTH = 0.43


def paint_face(appearance: Appearance) -> np.ndarray:
    """Albedo and gloss by rest coordinates, uint8 [368, 256, 4], bottom row first."""
    rows, columns = FACE_SIZE
    y, x = np.meshgrid(np.linspace(*FACE_Y, rows), np.linspace(*FACE_X, columns), indexing="ij")
    rng = np.random.default_rng(appearance.seed)
    skin = np.array(appearance.skin)
    albedo = np.broadcast_to(skin, (rows, columns, 3)).copy()
    natural = appearance.style == "natural"
    mottle = gaussian_filter(rng.normal(size=(rows, columns)), 4) * (0.35 if natural else 0.0)
    albedo *= (1 + 0.12 * mottle)[..., None]
    gloss = np.full((rows, columns), 0.22 if natural else 0.0)
    _warm(albedo, skin, appearance, x, y)
    if appearance.texture:
        _texture(albedo, appearance)
    if appearance.folds:
        _folds(albedo, appearance)
    if appearance.freckles:
        _freckles(albedo, appearance, rng, x, y)
    over_lips = appearance.beard == "over_lips"
    if appearance.stubble and not over_lips:
        _beard(albedo, appearance, rng, x, y)
    _brows(albedo, appearance, rng, x, y)
    _eye_makeup(albedo, appearance, x, y)
    _lips(albedo, gloss, appearance, x, y)
    if appearance.stubble and over_lips:
        _beard(albedo, appearance, rng, x, y)
    stacked = np.concatenate([albedo, gloss[..., None]], axis=-1)
    return (np.clip(stacked, 0, 1) * 255).astype(np.uint8)


def _texture(albedo: np.ndarray, appearance: Appearance) -> None:
    """Patches of light and colour, wrinkles and strokes: skin as photographs and brushes show it."""
    rng = np.random.default_rng(appearance.seed + 3)
    shape = albedo.shape[:2]
    for width, strength in ((30, 0.25), (9, 0.16), (2.5, 0.12)):
        patches = gaussian_filter(rng.normal(size=(*shape, 3)), (width, width, 0)) * width * 3.5
        grey = patches.mean(-1, keepdims=True)
        albedo *= np.clip(
            1 + appearance.texture * strength * (0.85 * grey + 0.2 * patches), 0.3, 1.7
        )
    for _ in range(int(rng.integers(0, 14))):
        start, step = rng.uniform(0, 1, 2) * shape, rng.normal(0, 1, 2)
        line = start + np.cumsum(np.tile(step, (60, 1)) + rng.normal(0, 0.35, (60, 2)), 0)
        mask = _stroke(shape, line, rng.uniform(0.7, 2.5)) * rng.uniform(2, 6)
        _blend(
            albedo,
            rng.uniform(0.2, 1.3) * np.array(appearance.skin),
            np.clip(mask, 0, 1) * appearance.texture * 0.6,
        )


FOLDS = (
    ((0.24, -0.68), (0.52, -0.92), (0.56, -1.22)),  # from the nose past the mouth
    ((0.45, -1.16), (0.54, -1.3), (0.5, -1.56)),  # from the mouth's corners down
    ((0.0, -1.47), (0.16, -1.46), (0.28, -1.41)),  # below the lower lip
    ((0.2, -0.12), (0.46, -0.32), (0.76, -0.1)),  # below the eyes
    ((0.74, 0.0), (0.88, 0.02), (1.02, 0.1)),  # beside the eyes
    ((0.74, -0.04), (0.88, -0.08), (1.0, -0.1)),
    ((0.07, 0.14), (0.1, 0.26), (0.07, 0.42)),  # between the brows
    ((0.0, 0.72), (0.4, 0.78), (0.8, 0.66)),  # across the forehead
    ((0.0, 0.94), (0.4, 0.98), (0.7, 0.9)),
)
"""Lines of age on one side: three points of each curve, by rest coordinates."""


def _folds(albedo: np.ndarray, appearance: Appearance) -> None:
    """Dark folds, with light beside them, where faces have them."""
    rng = np.random.default_rng(appearance.seed + 5)
    shape, share = albedo.shape[:2], np.linspace(0, 1, 60)[:, None]
    for curve in FOLDS:
        if rng.random() > 0.35 + 0.5 * appearance.folds:
            continue
        deep, width = appearance.folds * rng.uniform(0.2, 0.9), rng.uniform(0.8, 4)
        for side in (-1, 1):
            a, b, c = np.array(curve) * (side, 1) + rng.normal(0, 0.02, (3, 2))
            line = (1 - share) ** 2 * a + 2 * share * (1 - share) * b + share**2 * c
            spot = (line[:, ::-1] - (FACE_Y[0], FACE_X[0])) / (
                FACE_Y[1] - FACE_Y[0],
                FACE_X[1] - FACE_X[0],
            )
            mask = np.clip(_stroke(shape, spot * shape, width) * 2.4 * width, 0, 1)
            light = np.roll(mask, (-int(2 * width), side * int(2 * width)), (0, 1))
            albedo *= (1 - deep * 0.6 * mask + deep * 0.15 * light)[..., None]


def _stroke(shape: tuple[int, ...], line: np.ndarray, width: float) -> np.ndarray:
    """A soft line through points (row, column) on a sheet of a shape."""
    mask = np.zeros(shape)
    rows, columns = np.clip(line.astype(int), 0, np.array(shape) - 1).T
    mask[rows, columns] = 1
    return gaussian_filter(mask, width)


def _blend(albedo: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> None:
    albedo += alpha[..., None] * (color - albedo)


def _spot(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """A soft mirrored pair of spots at (+-cx, cy)."""
    return np.exp(-(((np.abs(x) - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


def _warm(
    albedo: np.ndarray, skin: np.ndarray, appearance: Appearance, x: np.ndarray, y: np.ndarray
) -> None:
    red = skin * (1.0, 0.72, 0.70) + (0.05, 0, 0)
    cheeks = _spot(x, y, 0.68, -0.62, 0.36, 0.28) * (0.15 + 0.55 * appearance.blush)
    nose = _spot(x, y, 0.0, -0.58, 0.25, 0.2) * 0.28
    _blend(albedo, red, np.clip(cheeks + nose, 0, 0.8))
    sockets = _spot(x, y, 0.47, -0.05, 0.42, 0.26)
    _blend(albedo, skin * 0.78, sockets * 0.3)


def _freckles(
    albedo: np.ndarray,
    appearance: Appearance,
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    dots = gaussian_filter(rng.normal(size=x.shape), 1.6)
    dots = np.clip((dots / dots.std() - 1.5) * 2, 0, 1)
    where = np.exp(-((x / 0.85) ** 4) - ((y + 0.45) / 0.4) ** 2)
    _blend(
        albedo,
        np.array(appearance.skin) * (0.72, 0.55, 0.45),
        dots * where * 0.7 * appearance.freckles,
    )


def _beard(
    albedo: np.ndarray,
    appearance: Appearance,
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    noise = rng.normal(size=x.shape)
    grain = 0.78 + appearance.beard_grain * gaussian_filter(noise, (2.2, 0.7)) * 3
    # Cheeks stay free above a line from the sideburns to the mouth's corners.
    line = -1.22 + 0.85 * np.clip((np.abs(x) - 0.45) / 0.75, 0, 1) ** 1.6
    chin = 1 / (1 + np.exp((y - line) / 0.06))
    moustache = np.exp(-((x / 0.42) ** 6) - ((y + 0.885 + 0.12 * np.abs(x)) / 0.085) ** 4)
    below_lip = 1 - 0.8 * np.exp(-((x / 0.38) ** 4) - ((y + 1.42) / 0.06) ** 2)
    neck = np.clip((y + 2.15) / 0.25, 0, 1)
    if (
        appearance.beard == "over_lips"
    ):  # hairs hang over the upper lip and grow up to the lower one
        moustache = np.exp(-((x / 0.47) ** 6) - ((y + 0.94 + 0.12 * np.abs(x)) / 0.15) ** 4)
        below_lip = np.ones_like(x)
    if appearance.beard == "goatee":
        chin = chin * np.exp(-((x / 0.5) ** 6))
    if appearance.beard == "moustache":
        chin = chin * 0.15
    alpha = np.clip(chin * below_lip * neck + moustache, 0, 1)
    full = np.clip((appearance.stubble - 0.45) / 0.3, 0, 1)
    alpha = np.clip(alpha * grain * (0.28 + 0.25 * appearance.stubble + 0.45 * full), 0, 0.97)
    _blend(albedo, np.array(appearance.brow) * 1.1 + 0.02, alpha)


def _brows(
    albedo: np.ndarray,
    appearance: Appearance,
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Tapered arcs of slanted hairs along the brow ridge."""
    along = (np.abs(x) - 0.17) / 0.66
    inside = np.clip(along, 0, 1)
    arch = 0.05 + 0.05 * appearance.brow_arch
    middle = 0.31 + (arch + 0.03) * np.sin(np.pi * 0.62 * inside) - 0.02 * inside**3
    width = appearance.brow_thickness * (1.05 - 0.75 * inside**1.6)
    profile = np.clip(1.25 - np.abs(y - middle) / width, 0, 1)
    ends = np.clip(along / 0.14 + 0.35, 0, 1) * np.clip((1 - along) / 0.12, 0, 1)
    ends *= along > -0.1
    slanted = np.sin(260 * (np.abs(x) - 0.55 * y) + 4 * rng.random())
    hairs = 0.85 + 0.15 * slanted if appearance.style == "natural" else np.ones_like(x)
    strength = 0.86 if appearance.style == "natural" else 1.0
    smooth = profile * profile * (3 - 2 * profile)
    _blend(albedo, np.array(appearance.brow), np.clip(smooth * ends * hairs * strength, 0, 1))


def _eye_makeup(albedo: np.ndarray, appearance: Appearance, x: np.ndarray, y: np.ndarray) -> None:
    if appearance.makeup < 0.4:
        return
    shadow = _spot(x, y, 0.5, 0.13, 0.3, 0.12) * (appearance.makeup - 0.3)
    _blend(albedo, np.array(appearance.lip) * 0.6, shadow * 0.8)


def lip_mask(x: np.ndarray, y: np.ndarray, height: float = 1.0, edge: float = 0.022) -> np.ndarray:
    """How much a point of the face belongs to the lips, 0..1, by rest coordinates.

    height: the share of the lips, from where they meet, that counts; edge: width of the soft border.
    """
    across = np.clip(np.abs(x) / MOUTH_HALF_WIDTH, 0, 1)
    bow = 0.028 * np.exp(-((x / 0.06) ** 2))
    top = MOUTH_CENTER_Y + height * (0.185 * (1 - across**1.7) - bow) + 0.02 * across
    bottom = MOUTH_CENTER_Y - height * 0.205 * (1 - across**2.2) + 0.02 * across
    inside = np.minimum(top - y, y - bottom)
    return np.clip(inside / edge + 0.5, 0, 1) * (np.abs(x) < MOUTH_HALF_WIDTH + 0.01)


def _lips(
    albedo: np.ndarray, gloss: np.ndarray, appearance: Appearance, x: np.ndarray, y: np.ndarray
) -> None:
    mask = lip_mask(x, y, appearance.lip_height, appearance.lip_edge)
    lip = np.array(appearance.lip)
    shade = np.where(y > MOUTH_CENTER_Y, 0.86, 1.04)
    wrinkles = 1 + 0.04 * np.sin(120 * x) * (appearance.style == "natural")
    albedo += mask[..., None] * (lip * (shade * wrinkles)[..., None] - albedo)
    gloss += mask * (0.35 - gloss) * (appearance.style == "natural")


def paint_background(appearance: Appearance, size: int = 256) -> np.ndarray:
    """The picture behind the head, uint8 [size, size, 3], bottom row first."""
    rng = np.random.default_rng(appearance.seed + 1)
    first, second, third = (np.array(color) for color in appearance.background_colors)
    y, x = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    painters = {
        "studio": _studio, "gradient": _gradient, "bokeh": _bokeh, "room": _room,
        "shelves": _shelves, "pattern": _pattern, "window": _window,
    }  # fmt: skip
    picture = painters[appearance.background](rng, x, y, first, second, third)
    if appearance.style == "natural":
        picture = picture + rng.normal(0, 0.006, (size, size, 1))
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


_Array = np.ndarray


def _mix(a: _Array, b: _Array, share: _Array) -> _Array:
    return a + (b - a) * share[..., None]


def _blur(picture: _Array, sigma: float) -> _Array:
    return gaussian_filter(picture, (sigma, sigma, 0))


def _studio(rng: np.random.Generator, x: _Array, y: _Array, a: _Array, *_: _Array) -> _Array:
    cx, cy = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)
    distance = np.hypot(x - cx, y - cy)
    return a * (1.08 - rng.uniform(0, 0.5) * distance)[..., None]


def _gradient(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, _: _Array
) -> _Array:
    angle = rng.uniform(0, 2 * np.pi)
    share = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)
    return _mix(a, b, share)


def _bokeh(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, c: _Array
) -> _Array:
    picture = _mix(a * 0.6, b * 0.6, y)
    for _ in range(rng.integers(12, 40)):
        cx, cy, radius = rng.random(), rng.random(), rng.uniform(0.02, 0.11)
        disc = np.clip((radius - np.hypot(x - cx, y - cy)) / 0.012, 0, 1)
        color = [a, b, c][rng.integers(3)] * 0.6 + 0.4
        picture = _mix(picture, color, disc * rng.uniform(0.15, 0.55))
    return _blur(picture, 1.5)


def _room(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, c: _Array
) -> _Array:
    picture = np.broadcast_to(a, (*x.shape, 3)).copy() * (0.85 + 0.2 * x)[..., None]
    picture[y < rng.uniform(0.15, 0.4)] = b * 0.7
    for _ in range(rng.integers(2, 5)):
        cx, cy = rng.random(), rng.uniform(0.5, 1)
        w, h = rng.uniform(0.05, 0.2, 2)
        color = [b, c, np.full(3, 0.9)][rng.integers(3)]
        picture[(np.abs(x - cx) < w) & (np.abs(y - cy) < h)] = color * 0.35
        picture[(np.abs(x - cx) < w - 0.015) & (np.abs(y - cy) < h - 0.015)] = color
    return _blur(picture, rng.uniform(1, 5))


def _shelves(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, c: _Array
) -> _Array:
    picture = np.broadcast_to(a * 0.35, (*x.shape, 3)).copy()
    rows = int(rng.integers(3, 6))
    for row in range(rows):
        left = 0.0
        while left < 1:
            width, height = rng.uniform(0.02, 0.06), rng.uniform(0.5, 0.85) / rows
            color = _mix(np.array([a, b, c][rng.integers(3)]), rng.random(3), np.array(0.35))
            bottom = row / rows + 0.03
            book = (x >= left) & (x < left + width) & (y > bottom) & (y < bottom + height)
            picture[book] = color * rng.uniform(0.5, 1.0)
            left += width + 0.004 + (rng.random() < 0.1) * 0.1
        picture[np.abs(y - row / rows - 0.015) < 0.014] = a * 0.8
    return _blur(picture, rng.uniform(1.5, 4.5))


def _pattern(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, _: _Array
) -> _Array:
    count, angle = rng.uniform(4, 12), rng.uniform(0, np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) * count
    v = (-x * np.sin(angle) + y * np.cos(angle)) * count
    kind = rng.integers(3)
    if kind == 0:
        mask = (u % 1) < 0.5
    elif kind == 1:
        mask = np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.28
    else:
        mask = ((u % 1) < 0.5) ^ ((v % 1) < 0.5)
    second = a + (b - a) * rng.uniform(0.2, 0.8)
    return _blur(_mix(np.broadcast_to(a, (*x.shape, 3)), second, mask.astype(float)), 1.0)


def _window(
    rng: np.random.Generator, x: _Array, y: _Array, a: _Array, b: _Array, c: _Array
) -> _Array:
    wall = np.broadcast_to(a * 0.8, (*x.shape, 3)).copy()
    sky = _mix(c * 0.4 + 0.6, np.array([0.85, 0.92, 1.0]), y)
    hills = y < 0.45 + 0.1 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
    sky[hills] = b * 0.6 + (0.0, 0.12, 0.0)
    panes = int(rng.integers(1, 4))
    left, width = rng.uniform(-0.1, 0.5), rng.uniform(0.4, 0.8)
    u = (x - left) / width * panes
    open_ = (x > left) & (x < left + width) & (y > 0.3) & (y < 1.2)
    open_ &= (np.abs(u - np.round(u)) > 0.05) & (np.abs(y - 0.72) > 0.015)
    wall[open_] = sky[open_]
    return _blur(wall, rng.uniform(1.0, 4.0))
