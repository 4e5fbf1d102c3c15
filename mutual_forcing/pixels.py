"""Pictures as the autoencoder sees them: -1..1 instead of 0..255."""

from __future__ import annotations

from torch import Tensor


def to_signal(pixels: Tensor) -> Tensor:
    """uint8 of any shape to float32 within -1..1."""
    return pixels.float() / 127.5 - 1


def to_pixels(signal: Tensor) -> Tensor:
    """Float of any shape to uint8; what lies outside -1..1 is clipped."""
    return ((signal.float().clamp(-1, 1) + 1) * 127.5).round().byte()
