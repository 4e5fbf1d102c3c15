"""Does a stream stay what it was? Loudness, silence, motion and colour by stretches of time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mutual_forcing.config import FPS, SAMPLE_RATE

EDGES = (0.0, 5.0, 15.0, 25.0, 60.0)
"""Seconds between which a stream is described."""
SILENCE = 0.01
"""A 20 ms frame of sound with less RMS than this (-40 dB of full scale) is silent."""


def describe(frames: np.ndarray, audio: np.ndarray) -> dict[str, float]:
    """Figures of frames uint8 [T, S, S, 3] and float audio [N].

    loudness: RMS. silence: share of silent 20 ms frames, 0..1. motion: mean absolute difference of
    successive frames, 0..255 (0 when frozen). colour, contrast: mean and standard deviation, 0..255.
    """
    step = SAMPLE_RATE // 50
    whole = len(audio) // step * step
    levels = np.sqrt(np.mean(audio[:whole].reshape(-1, step) ** 2, axis=1))
    moved = np.abs(np.diff(frames.astype(np.int16), axis=0))
    return {
        "loudness": float(np.sqrt(np.mean(audio**2))),
        "silence": float(np.mean(levels < SILENCE)),
        "motion": float(moved.mean()) if len(frames) > 1 else 0.0,
        "colour": float(frames.mean()),
        "contrast": float(frames.std()),
    }


def by_window(
    frames: np.ndarray, audio: np.ndarray, edges: Sequence[float] = EDGES
) -> dict[str, dict[str, float]]:
    """`describe` of each stretch between `edges` (seconds) that holds a second or more, by its name."""
    result = {}
    for start, end in itertools.pairwise(edges):
        part = frames[round(start * FPS) : round(end * FPS)]
        if len(part) >= FPS:
            heard = audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            result[f"{start:g}-{end:g} s"] = describe(part, heard)
    return result
