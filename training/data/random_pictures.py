"""Pictures unlike any head: the autoencoder sees some, so that it does not destroy what is new."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def random_picture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Dead leaves, gradients, strokes and blur at random: uint8 [size, size, 3]."""
    picture = Image.fromarray(_gradient(rng, size))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 40))):
        _leaf(draw, rng, size)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, size / 60))))
    return np.asarray(picture)


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    corners = rng.uniform(0, 255, (2, 2, 3))
    ramp = np.linspace(0, 1, size)
    rows = corners[0, 0] * (1 - ramp[:, None]) + corners[1, 0] * ramp[:, None]
    ends = corners[0, 1] * (1 - ramp[:, None]) + corners[1, 1] * ramp[:, None]
    blend = rows[:, None] * (1 - ramp[None, :, None]) + ends[:, None] * ramp[None, :, None]
    return blend.astype(np.uint8)


def _leaf(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> None:
    x, y = rng.uniform(-0.1, 1.1, 2) * size
    radius = size * min(0.4, 0.03 / rng.uniform(0.05, 1))
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    elif kind == 1:
        draw.rectangle([x - radius, y - radius / 2, x + radius, y + radius / 2], fill=colour)
    elif kind == 2:
        points = [tuple(p) for p in (rng.uniform(-1, 1, (3, 2)) * radius + (x, y))]
        draw.polygon(points, fill=colour)
    else:
        end = rng.uniform(0, 1, 2) * size
        draw.line([x, y, *end], fill=colour, width=int(rng.integers(1, 5)))
