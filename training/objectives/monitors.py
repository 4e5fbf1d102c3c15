"""Watching for what a distillation may ruin: silence, saturation, frozen motion, jumps, sameness.

Figures compare what the model makes of held-out clips with those clips; each has a bound beyond which the
log gets an alarm line (docs/method.md, Known risks).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mutual_forcing.metrics import drift

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Excerpt:
    """Frames uint8 [T, S, S, 3], sound float [N] and standardised video latents [T, C] of one clip.

    None where a branch is absent, and for frames while there is no decoder to make them.
    """

    frames: np.ndarray | None
    audio: np.ndarray | None
    latents: np.ndarray | None = None

    def moved(self) -> np.ndarray | None:
        """Change from each frame, or latent if there are no frames, to the next: [T - 1]."""
        if self.frames is not None:
            return drift.changes(self.frames)
        return None if self.latents is None else np.abs(np.diff(self.latents, axis=0)).mean(1)


@dataclass(frozen=True)
class Alarm:
    """A figure that should stay within low..high, and what it means when it does not."""

    figure: str
    low: float
    high: float
    meaning: str


ALARMS = (
    Alarm("loudness", 0.3, 3.0, "the speech is fading or blaring"),
    Alarm("saturation", 0.0, 0.1, "colours run into black or white"),
    Alarm("motion", 0.25, 4.0, "the picture freezes or flickers"),
    Alarm("jumps", 0.0, 3.0, "the picture jumps where chunks meet"),
    Alarm("diversity", 0.05, np.inf, "different seeds make the same clip"),
)


def figures(made: Sequence[Excerpt], real: Sequence[Excerpt]) -> dict[str, float]:
    """Figures of generated clips beside the real ones.

    loudness and motion: ratio to the real clips. saturation: share of colour values at 0 or 255 beyond
    that of the real clips. jumps: change at chunk borders over change within chunks, as a ratio to the real.
    """
    values: dict[str, float] = {}
    if made[0].audio is not None:
        loud = ([drift.loudness(clip.audio) for clip in clips] for clips in (made, real))
        values["loudness"] = _ratio(*loud)
    if made[0].frames is not None:
        extra = [_clipped(m.frames) - _clipped(r.frames) for m, r in zip(made, real, strict=True)]
        values["saturation"] = max(0.0, float(np.mean(extra)))
    moved = [[clip.moved() for clip in clips] for clips in (made, real)]
    if moved[0][0] is not None:
        values["motion"] = _ratio(*([drift.motion(m) for m in side] for side in moved))
        values["jumps"] = _ratio(*([drift.jump(m) for m in side] for side in moved))
    return values


def raise_alarms(values: dict[str, float], step: int) -> list[str]:
    """Log a line for every figure out of bounds; returns the lines."""
    lines = [
        f"ALARM at step {step}: {a.meaning} ({a.figure} {values[a.figure]:.2f}, "
        f"expected {a.low:g} to {a.high:g})."
        for a in ALARMS
        if a.figure in values and not a.low <= values[a.figure] <= a.high
    ]
    for line in lines:
        log.warning(line)
    return lines


def _ratio(made: list[float], real: list[float]) -> float:
    """Mean over mean."""
    return float(np.mean(made) / max(1e-6, np.mean(real)))


def _clipped(frames: np.ndarray) -> float:
    return float(np.mean((frames == 0) | (frames == 255)))
