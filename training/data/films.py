"""Films of the corpus at a codec's size."""

from __future__ import annotations

import cv2
import numpy as np

from .dataset import Clip


def read_film(clip: Clip, size: tuple[int, int], start: int, count: int) -> np.ndarray:
    """Frames uint8 [count, H, W, 3] of a square film from `start` on, its middle cut to the aspect of `size`
    (width, height) and reduced to it.
    """
    frames = clip.read_frames(start, count)
    width, height = size
    side = frames.shape[1]
    wide, high = (round(side * part / max(size)) for part in size)
    left, top = (side - wide) // 2, (side - high) // 2
    cut = frames[:, top : top + high, left : left + wide]
    if cut.shape[1:3] == (height, width):
        return cut
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in cut])


def mouths_of(clip: Clip, size: tuple[int, int], start: int, count: int) -> np.ndarray:
    """Middle and size of the mouth in these frames of `read_film`, in fractions of them: [count, 4]."""
    scale = max(size) / np.array(size, np.float32)
    boxes = clip.mouth_boxes[start : start + count]
    middle, extent = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(middle - 0.5) * scale + 0.5, extent * scale], 1)
