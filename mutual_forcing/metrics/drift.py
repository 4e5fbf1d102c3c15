"""Does a stream stay what it was? Sound, motion, borders, colour and sharpness by stretches of time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mutual_forcing.chunks import FRAMES_PER_CHUNK
from mutual_forcing.config import FPS, SAMPLE_RATE

EDGES = (0.0, 5.0, 15.0, 25.0, 60.0)
"""Seconds between which a stream is described."""
SILENCE = 0.01
"""A 20 ms frame of sound with less RMS than this (-40 dB of full scale) is silent."""


def describe(frames: np.ndarray, audio: np.ndarray, first: int = 0) -> dict[str, float]:
    """Figures of frames uint8 [T, S, S, 3] and float audio [N]; `first` is frame 0's place in its stream.

    loudness: RMS. silence: share of silent 20 ms frames, 0..1. motion: mean absolute difference of
    successive frames, 0..255 (0 when frozen). jump: the same at chunk borders over within chunks (1: no
    border shows; 0 when frozen or without a border). colour, contrast: mean and standard deviation,
    0..255. sharpness: mean absolute Laplacian of grey, 0..1020 (0: nothing but flat).
    """
    step = SAMPLE_RATE // 50
    whole = len(audio) // step * step
    levels = np.sqrt(np.mean(audio[:whole].reshape(-1, step) ** 2, axis=1))
    moved = changes(frames)
    return {
        "loudness": loudness(audio),
        "silence": float(np.mean(levels < SILENCE)),
        "motion": motion(moved),
        "jump": jump(moved, first),
        "colour": float(frames.mean()),
        "contrast": float(frames.std()),
        "sharpness": sharpness(frames),
    }


def loudness(audio: np.ndarray) -> float:
    """RMS of float audio [N]."""
    return float(np.sqrt(np.mean(audio.astype(np.float64) ** 2)))


def changes(frames: np.ndarray) -> np.ndarray:
    """Mean absolute change from each of frames uint8 [T, S, S, 3] to the next: [T - 1], 0..255."""
    return np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))


def motion(moved: np.ndarray) -> float:
    """Mean of `changes`; 0 for a single frame."""
    return float(moved.mean()) if len(moved) else 0.0


def jump(moved: np.ndarray, first: int = 0) -> float:
    """Mean of `changes` at the borders of chunks over their mean elsewhere; `first` as in `describe`."""
    border = (np.arange(len(moved)) + first + 1) % FRAMES_PER_CHUNK == 0
    if not border.any() or border.all() or moved[~border].mean() < 1e-6:
        return 0.0
    return float(moved[border].mean() / moved[~border].mean())


def standing(latents: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation of every channel of standardised latents [C, ...]: two lists of C."""
    flat = latents.reshape(len(latents), -1)
    return {"means": flat.mean(1).round(4).tolist(), "deviations": flat.std(1).round(4).tolist()}


def latent_drift(latents: np.ndarray) -> dict[str, float]:
    """How far standardised latents [C, ...] are from what they are over the corpus.

    shift: root mean square of the channels' means (0 over the corpus; a single character has its own).
    spread: mean standard deviation of the channels (1 over the corpus; 0 when the latents died).
    """
    flat = latents.reshape(len(latents), -1)
    shift = np.sqrt(np.mean(flat.mean(1) ** 2))
    return {"shift": float(shift), "spread": float(flat.std(1).mean())}


def sharpness(frames: np.ndarray) -> float:
    """Mean absolute Laplacian of every fourth of frames uint8 [T, S, S, 3], in grey."""
    grey = frames[::4].astype(np.float32).mean(-1)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return float(np.abs(around - 4 * middle).mean())


def windows(
    frames: np.ndarray, audio: np.ndarray, edges: Sequence[float] = EDGES
) -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
    """First frame, frames and sound of each stretch between `edges` (s) of a second or more, by name."""
    result = {}
    for start, end in itertools.pairwise(edges):
        first = round(start * FPS)
        part = frames[first : round(end * FPS)]
        if len(part) >= FPS:
            heard = audio[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            result[f"{start:g}-{end:g} s"] = (first, part, heard)
    return result


def by_window(
    frames: np.ndarray, audio: np.ndarray, edges: Sequence[float] = EDGES
) -> dict[str, dict[str, float]]:
    """`describe` of each stretch between `edges` (seconds) that holds a second or more, by its name."""
    parts = windows(frames, audio, edges)
    return {name: describe(part, heard, first) for name, (first, part, heard) in parts.items()}
