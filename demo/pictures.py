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
_FAR = np.array([1.7, 1.5])
"""How many times the known pictures' median is too far. Measured with `tiny` c832bb5302a1: 40 corpus
clips stay below, 11 of 16 foreign pictures (photographs, textures, pages) are above."""
_FLAT = 0.05
"""Contrast (standard deviation of -1..1) below which a picture shows nothing."""
_SOFT = 0.3
_MOTIONS = 6
"""Known motions that a picture is tried with."""


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
    """How far a picture is from what the checkpoint knows, by its own autoencoder.

    Two signs, each relative to the bundled characters: how badly the encoder reads back the motions of
    known faces after the picture was animated with them (what cannot be moved like a face is none that
    the model knows), and how unusual the picture's own latent is.
    """

    def __init__(self, generator: StreamingGenerator, known: Sequence[np.ndarray]) -> None:
        """known: uint8 RGB pictures [H, W, 3] of what the checkpoint has learnt from, at least 4."""
        if len(known) < 4:
            raise ValueError("At least four known pictures are needed.")
        self._generator = generator
        both = [view for picture in known for view in (picture, picture[:, ::-1])]
        pictures = torch.cat([self._tensor(picture) for picture in both])
        with torch.inference_mode():
            latents = generator.system.video_autoencoder.encode_still(pictures)
            self._motions = latents[:: max(1, len(latents) // _MOTIONS)][:_MOTIONS].T[None]
            self._mean, self._deviation = latents.mean(0), latents.std(0) + _SOFT
            signs = [self._signs(p[None]) for p in pictures[::2]]
        self._usual = np.median(signs, axis=0)

    def distance(self, picture: np.ndarray) -> float:
        """Return the distance of uint8 RGB [H, W, 3]: above 1 is farther than known pictures are."""
        pixels = self._tensor(picture)
        if pixels.std() < _FLAT:
            return math.inf
        with torch.inference_mode():
            signs = np.array(self._signs(pixels))
        return float((signs / (self._usual * _FAR)).max())

    def _signs(self, pixels: Tensor) -> tuple[float, float]:
        autoencoder = self._generator.system.video_autoencoder
        reference = autoencoder.encode_reference(pixels)
        moved = autoencoder.decode(self._motions, reference).clamp(-1, 1)
        error = (autoencoder.encode(moved) - self._motions).square().mean().sqrt()
        unusual = ((reference.latent[0] - self._mean) / self._deviation).square().mean().sqrt()
        return error.item(), unusual.item()

    def _tensor(self, picture: np.ndarray) -> Tensor:
        square = fit_picture(frame_figure(picture), self._generator.video_size)
        pixels = torch.from_numpy(square.copy()).to(self._generator.device)
        return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def bundled_characters(folder: Path) -> list[np.ndarray]:
    """Return the pictures [H, W, 3] of `folder`."""
    return [read_image(path) for path in sorted(folder.glob("*.png"))]
