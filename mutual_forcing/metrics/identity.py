"""Is it the same character? Retrieval among held-out identities by colour and coarse structure.

Simple on purpose: a network trained on these identities would judge what it was trained for. The signature of
a clip is its mean frame at 16 x 16 in standardised colours; the figure is how often the right reference is
nearest among those of all held-out identities. The whole picture is helped by its background, so the
middle half, which is mostly face, is a second and stricter figure: the corpus itself reaches 0.92 there.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GRID = 16


def signature(frames: np.ndarray) -> np.ndarray:
    """Unit vector of the mean of frames uint8 [T, S, S, 3]."""
    mean = Image.fromarray(frames.mean(0).round().astype(np.uint8))
    small = np.asarray(mean.resize((GRID, GRID), Image.Resampling.BOX), np.float64).ravel()
    centred = small - small.mean()
    return centred / max(1e-9, float(np.linalg.norm(centred)))


def middle(frames: np.ndarray) -> np.ndarray:
    """The middle half of frames uint8 [T, S, S, 3]: [T, S / 2, S / 2, 3], mostly face."""
    edge = frames.shape[1] // 4
    return frames[:, edge : frames.shape[1] - edge, edge : frames.shape[2] - edge]


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine, -1..1."""
    return float(first @ second)
