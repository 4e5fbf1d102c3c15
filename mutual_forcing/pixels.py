"""Pictures as the autoencoder sees them, -1..1 instead of 0..255, and where films are kept in memory."""

from __future__ import annotations

import math
import mmap

import numpy as np
from torch import Tensor


def frame_array(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 zeros of `shape`, in pages of their own that go back to the system with the array.

    A stream hands out megabytes of frames with every chunk and somebody else drops them later. In the
    heap, between the decoder's tensors, they would leave holes: a process then takes some 30 MB more, and
    more or less from chunk to chunk.
    """
    pages = mmap.mmap(-1, math.prod(shape))
    return np.frombuffer(pages, np.uint8).reshape(shape)


def to_signal(pixels: Tensor) -> Tensor:
    """uint8 of any shape to float32 within -1..1."""
    return pixels.float() / 127.5 - 1


def to_pixels(signal: Tensor) -> Tensor:
    """Float of any shape to uint8; what lies outside -1..1 is clipped."""
    return ((signal.float().clamp(-1, 1) + 1) * 127.5).round().byte()
