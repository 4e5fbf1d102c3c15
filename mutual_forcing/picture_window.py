"""What of a picture a film of fixed size shows, for codecs that make whole frames (protocol.PixelCodec).

A motion codec moves the upload's own pixels (canvas.py). One that makes all of a frame has one size, and what
is shown of the picture is a window of that size's aspect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from .pixels import to_signal
from .types import FaceCrop, Framing


@dataclass(frozen=True)
class PictureWindow:
    """The window of a picture, as large as the film (uint8 [H, W, 3]): a protocol.FilmLayout."""

    reference_frame: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film."""
        return self.reference_frame.shape[1], self.reference_frame.shape[0]

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self.reference_frame.nbytes

    def reference(self, device: torch.device) -> Tensor:
        """The window as the encoder wants it, [1, 3, H, W] within -1..1."""
        return to_signal(torch.from_numpy(self.reference_frame).to(device).permute(2, 0, 1)[None])


def cut_window(
    picture: np.ndarray,
    size: tuple[int, int],
    crop: FaceCrop | None = None,
    framing: Framing = "whole",
) -> PictureWindow:
    """Cut a window from uint8 RGB [H, W, 3] and make it `size` (width, height) large.

    framing: "whole" for the largest window that lies in the picture, as near to the middle of `crop` as that
    allows (of the picture without one); "face" for one around the crop, upright as that is, whose shorter
    side is the crop's; beyond the picture its border goes on. Raises ValueError for a face that is to be
    framed and not given.
    """
    width, height = size
    extent = np.array([picture.shape[1], picture.shape[0]], np.float64)
    middle = extent / 2 if crop is None else np.array([crop.x, crop.y])
    if framing == "face":
        if crop is None:
            raise ValueError("A film of the face alone needs the place of the face.")
        scale = crop.side / min(size)
        turn = replace(crop, tall=1.0).to_picture * (2 / crop.side)
    else:
        scale, turn = min(extent / size), np.eye(2)
        half = scale * np.array(size) / 2
        middle = np.clip(middle, half, extent - half)
    # Reduced by areas first: a cubic curve reads four pixels a side, and would skip the others.
    smaller = min(1.0, 1 / scale)
    if smaller < 1:
        shape = np.maximum(1, np.rint(extent * smaller)).astype(int)
        picture = cv2.resize(picture, tuple(shape.tolist()), interpolation=cv2.INTER_AREA)
        middle, turn = middle * shape / extent, turn * (shape / extent)[:, None]
    # Pixel p of the film shows the picture's place middle + turn (p - half), all of them pixels' middles.
    matrix = scale * turn
    corner = middle - 0.5 - matrix @ ((np.array(size) - 1) / 2)
    frame = cv2.warpAffine(
        picture,
        np.concatenate([matrix, corner[:, None]], 1),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return PictureWindow(frame)
