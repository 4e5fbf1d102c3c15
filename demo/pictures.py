"""Which part of an uploaded picture the model sees, and how far it is from what the model knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mutual_forcing.media import read_image
from mutual_forcing.streaming import fit_picture

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

_SIDE = 96
"""The long side while searching: enough to find a figure."""
_FAR = 1.75
"""How many times the known pictures' median is too far. Measured with the first `tiny` of motion latents: 14
foreign pictures (noise, stripes, random shapes) lie above, 11 of 12 characters and 48 of 50 held-out faces
below."""
_FLAT = 0.05
"""Contrast (standard deviation of -1..1) below which a picture shows nothing."""


def frame_figure(picture: np.ndarray) -> np.ndarray:
    """Return the square of uint8 RGB [H, W, 3] that holds most of the figure, as wide as possible.

    The square slides along the longer side only: nothing is enlarged, a square stays as it is. It
    goes where the picture differs from its own border and has skin-like colours; on tall pictures
    the upper of equally good places wins, where heads are. This finds a figure before a plain
    background, not faces in a crowd.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    if height == width:
        return picture
    tall = height > width
    profile = _profile(_interest(_reduced(picture)), tall)
    steps = len(profile) * side // max(height, width)
    start = _best_window(profile, max(1, steps), upper=tall)
    offset = round(start * max(height, width) / len(profile))
    offset = min(offset, max(height, width) - side)
    if tall:
        return picture[offset : offset + side]
    return picture[:, offset : offset + side]


def _reduced(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def _interest(pixels: np.ndarray) -> np.ndarray:
    """How much each pixel of [H, W, 3] looks like a figure: [H, W], from 0 up."""
    border = np.concatenate([pixels[0], pixels[:, 0], pixels[:, -1]])  # not the bottom: shoulders
    away = np.abs(pixels - np.median(border, axis=0)).max(-1)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    # A wide range of skin: redder than green, greener than blue, neither black nor white.
    skin = (red > green) & (green > 0.9 * blue) & (red - blue > 0.06) & (red > 0.2) & (blue < 0.9)
    # A brown wall is no skin: only what also differs from the border counts.
    return away * (1 + 2 * (skin & (away > 0.1)))


def _profile(interest: np.ndarray, tall: bool) -> np.ndarray:
    rows = interest.sum(1 if tall else 0)
    return np.maximum(0, rows - 0.25 * rows.max())


def _best_window(profile: np.ndarray, length: int, upper: bool) -> int:
    """Where a window of `length` holds most of the profile; among near-equals the upper or middle."""
    sums = np.convolve(profile, np.ones(length), "valid")
    good = np.flatnonzero(sums >= (0.8 if upper else 0.97) * sums.max())
    if upper:
        # The head's top, with a little air above it, rather than the middle of the body.
        top = np.flatnonzero(profile > 0)
        first = max(0, int(top[0]) - length // 10) if len(top) else 0
        return int(good[np.abs(good - first).argmin()])
    return int(good[len(good) // 2])


class Familiarity:
    """How far a picture is from what the checkpoint knows, by its own encoder.

    The encoder looks for the points of a face; where there is none it finds them scattered. The distance is
    that of their shape (whatever its place and size) from the mean shape of the bundled characters, relative
    to the characters' own.
    """

    def __init__(self, generator: StreamingGenerator, known: Sequence[np.ndarray]) -> None:
        """known: uint8 RGB pictures [H, W, 3] of what the checkpoint has learnt from, at least 4."""
        if len(known) < 4:
            raise ValueError("At least four known pictures are needed.")
        self._generator = generator
        shapes = torch.stack([self._shape(self._tensor(picture)) for picture in known])
        self._mean = shapes.mean(0)
        self._usual = float(np.median([self._distance(shape) for shape in shapes]))

    def distance(self, picture: np.ndarray) -> float:
        """Return the distance of uint8 RGB [H, W, 3]: above 1 is farther than known pictures are."""
        pixels = self._tensor(picture)
        if pixels.std() < _FLAT:
            return math.inf
        return self._distance(self._shape(pixels)) / (self._usual * _FAR)

    @torch.inference_mode()
    def _shape(self, pixels: Tensor) -> Tensor:
        """The points found in [1, 3, S, S], centred and of unit size: [64, 2]."""
        autoencoder = self._generator.system.video_autoencoder
        places = autoencoder.observe(pixels[:, :, None])[1][0, 0]
        centred = places - places.mean(0)
        return centred / centred.square().sum(1).mean().sqrt().clamp_min(1e-6)

    def _distance(self, shape: Tensor) -> float:
        return (shape - self._mean).square().sum(1).mean().sqrt().item()

    def _tensor(self, picture: np.ndarray) -> Tensor:
        square = fit_picture(frame_figure(picture), self._generator.video_size)
        pixels = torch.from_numpy(square.copy()).to(self._generator.device)
        return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def bundled_characters(folder: Path) -> list[np.ndarray]:
    """Return the pictures [H, W, 3] of `folder`."""
    return [read_image(path) for path in sorted(folder.glob("*.png"))]
